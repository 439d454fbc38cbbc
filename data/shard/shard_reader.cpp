#include "data/shard/shard_reader.h"

#include <fcntl.h>
#include <hdf5.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <vector>

#include "data/shard/hdf5_handle.h"
#include "framework/base/check.h"

namespace dujiang::data {
namespace {

/// A file's bytes, mapped read-only; empty where it could not be mapped.
class Mapping {
 public:
  explicit Mapping(const std::filesystem::path& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    struct stat status {};
    if (::fstat(fd, &status) == 0 && status.st_size > 0) {
      void* at = ::mmap(nullptr, static_cast<std::size_t>(status.st_size), PROT_READ, MAP_SHARED, fd, 0);
      if (at != MAP_FAILED) bytes_ = {static_cast<const std::uint8_t*>(at), static_cast<std::size_t>(status.st_size)};
    }
    ::close(fd);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() {
    if (!bytes_.empty()) ::munmap(const_cast<std::uint8_t*>(bytes_.data()), bytes_.size());
  }
  std::span<const std::uint8_t> bytes() const { return bytes_; }

 private:
  std::span<const std::uint8_t> bytes_;
};

template <class T>
void widen(const void* from, std::int64_t count, std::int32_t* out) {
  const T* tokens = static_cast<const T*>(from);
  for (std::int64_t i = 0; i < count; ++i) out[i] = static_cast<std::int32_t>(tokens[i]);
}

}  // namespace

struct ShardReader::Impl {
  std::filesystem::path path;
  std::optional<Mapping> mapping;
  std::int64_t file_bytes = 0;
  DatasetInfo info;
  std::string split;
  std::int64_t tokens = 0, documents = 0;
  int width = 2;
  const std::uint8_t* mapped_tokens = nullptr;  // or else:
  Hdf5Handle file, token_column;
  std::span<const std::uint64_t> offsets, hashes, checksums;
  std::span<const std::uint32_t> sources, flags;
  std::vector<std::vector<std::uint64_t>> owned;  // columns that could not be mapped
  std::unique_ptr<std::atomic<bool>[]> verified;  // per block, with verify_blocks

  [[noreturn]] void bad(const std::string& what) const { fail_user("{}: {}", path.string(), what); }
  void check(hid_t result, const char* what) const {
    if (result < 0) bad(fmt::format("{} cannot be read ({}): not a token shard, or damaged", what, hdf5_reason()));
  }

  void open(ReadOptions options);
  std::int64_t number(const char* name) const;
  std::string text(const char* name) const;
  std::vector<std::string> texts(const char* name) const;
  Hdf5Handle column(const char* name, std::vector<std::int64_t> sizes) const;
  const std::uint8_t* place(hid_t column, hid_t type, std::int64_t bytes) const;
  template <class T>
  std::span<const T> load(const char* name, std::vector<std::int64_t> sizes);
  std::vector<std::uint8_t> fetch(std::int64_t first, std::int64_t count) const;
  void verify_range(std::int64_t first, std::int64_t count) const;
};

void ShardReader::Impl::open(ReadOptions options) {
  std::error_code error;
  file_bytes = static_cast<std::int64_t>(std::filesystem::file_size(path, error));
  if (error) bad(fmt::format("cannot be opened: {}", error.message()));
  const Hdf5Quiet quiet;
  Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_file_locking(access, false, true);  // shards never change, and some network file systems cannot lock
  file = {H5Fopen(path.c_str(), H5F_ACC_RDONLY, access), H5Fclose};
  check(file, "the file");
  if (options.map) mapping.emplace(path);

  const auto version = number("format_version");
  if (version != static_cast<std::int64_t>(shard_format_version))
    bad(fmt::format("format version is {}, this program reads {}", version, shard_format_version));
  info.vocab_size = number("vocab_size");
  tokens = number("tokens");
  documents = number("documents");
  if (info.vocab_size < 1 || info.vocab_size > (std::int64_t{1} << 31) || tokens < 1 || documents < 1)
    bad(fmt::format("vocab_size {}, tokens {}, documents {}: damaged", info.vocab_size, tokens, documents));
  info.tokenizer_sha256 = text("tokenizer_sha256");
  info.pipeline = text("pipeline");
  split = text("split");
  const auto names = texts("sources/name"), licences = texts("sources/licence"), sha256s = texts("sources/sha256");
  if (licences.size() != names.size() || sha256s.size() != names.size())
    bad("the columns of /sources differ in length");
  for (std::size_t i = 0; i < names.size(); ++i) info.sources.push_back({names[i], licences[i], sha256s[i]});

  width = token_bytes(info.vocab_size);
  const hid_t type = width == 2 ? H5T_STD_U16LE : H5T_STD_U32LE;
  token_column = column("tokens", {tokens});
  Hdf5Handle stored(H5Dget_type(token_column), H5Tclose);
  if (H5Tequal(stored, type) <= 0)
    bad(fmt::format("/tokens is not u{}, as a vocabulary of {} asks for", width * 8, info.vocab_size));
  mapped_tokens = place(token_column, type, tokens * width);
  offsets = load<std::uint64_t>("doc_offsets", {documents + 1});
  hashes = load<std::uint64_t>("doc/hash", {documents, 2});
  sources = load<std::uint32_t>("doc/source", {documents});
  flags = load<std::uint32_t>("doc/flags", {documents});
  const std::int64_t blocks = (tokens * width + block_bytes - 1) / block_bytes;
  checksums = load<std::uint64_t>("block_xxh3", {blocks});
  if (offsets.front() != 0 || offsets.back() != static_cast<std::uint64_t>(tokens))
    bad(fmt::format("/doc_offsets run from {} to {}, expected 0 to {}", offsets.front(), offsets.back(), tokens));
  if (options.verify_blocks) verified = std::make_unique<std::atomic<bool>[]>(static_cast<std::size_t>(blocks));
  if (mapped_tokens) {  // HDF5 has done its part
    token_column = {};
    file = {};
  }
}

std::int64_t ShardReader::Impl::number(const char* name) const {
  Hdf5Handle attribute(H5Aopen(file, name, H5P_DEFAULT), H5Aclose);
  check(attribute, name);
  Hdf5Handle space(H5Aget_space(attribute), H5Sclose);
  if (H5Sget_simple_extent_npoints(space) != 1) bad(fmt::format("attribute {} is not one number", name));
  std::int64_t value = 0;
  check(H5Aread(attribute, H5T_NATIVE_INT64, &value), name);
  return value;
}

std::string ShardReader::Impl::text(const char* name) const {
  Hdf5Handle attribute(H5Aopen(file, name, H5P_DEFAULT), H5Aclose);
  check(attribute, name);
  Hdf5Handle type(H5Aget_type(attribute), H5Tclose), space(H5Aget_space(attribute), H5Sclose);
  if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) || H5Sget_simple_extent_npoints(space) != 1)
    bad(fmt::format("attribute {} is not a string of fixed length", name));
  std::string value(H5Tget_size(type), '\0');
  check(H5Aread(attribute, type, value.data()), name);
  return value.substr(0, value.find('\0'));
}

std::vector<std::string> ShardReader::Impl::texts(const char* name) const {
  Hdf5Handle column(H5Dopen2(file, name, H5P_DEFAULT), H5Dclose);
  check(column, name);
  Hdf5Handle type(H5Dget_type(column), H5Tclose), space(H5Dget_space(column), H5Sclose);
  const std::int64_t width = static_cast<std::int64_t>(H5Tget_size(type)), count = H5Sget_simple_extent_npoints(space);
  if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) || count < 0 || width * count > file_bytes)
    bad(fmt::format("/{} is not a column of strings of fixed length", name));
  std::string packed(static_cast<std::size_t>(width * count), '\0');
  check(H5Dread(column, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, packed.data()), name);
  std::vector<std::string> values;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto value = packed.substr(static_cast<std::size_t>(i * width), static_cast<std::size_t>(width));
    values.push_back(value.substr(0, value.find('\0')));
  }
  return values;
}

Hdf5Handle ShardReader::Impl::column(const char* name, std::vector<std::int64_t> sizes) const {
  Hdf5Handle column(H5Dopen2(file, name, H5P_DEFAULT), H5Dclose);
  check(column, name);
  Hdf5Handle space(H5Dget_space(column), H5Sclose);
  std::vector<hsize_t> found(sizes.size());
  if (H5Sget_simple_extent_ndims(space) != static_cast<int>(sizes.size()) ||
      H5Sget_simple_extent_dims(space, found.data(), nullptr) < 0 ||
      !std::ranges::equal(sizes, found, [](auto a, auto b) { return static_cast<hsize_t>(a) == b; }))
    bad(fmt::format("/{} has sizes [{}], the counts ask for [{}]", name, fmt::join(found, ", "),
                    fmt::join(sizes, ", ")));
  return column;
}

/// Where the column lies in the mapping; null when HDF5 keeps it elsewhere or otherwise.
const std::uint8_t* ShardReader::Impl::place(hid_t column, hid_t type, std::int64_t bytes) const {
  Hdf5Handle stored(H5Dget_type(column), H5Tclose);
  const haddr_t offset = H5Dget_offset(column);
  if (!mapping || mapping->bytes().empty() || offset == HADDR_UNDEF || H5Tequal(stored, type) <= 0) return nullptr;
  if (offset > mapping->bytes().size() || static_cast<std::size_t>(bytes) > mapping->bytes().size() - offset)
    bad(fmt::format("truncated: a column needs bytes [{}, {}), the file has {}", offset,
                    offset + static_cast<haddr_t>(bytes), mapping->bytes().size()));
  return offset % H5Tget_size(type) == 0 ? mapping->bytes().data() + offset : nullptr;
}

template <class T>
std::span<const T> ShardReader::Impl::load(const char* name, std::vector<std::int64_t> sizes) {
  const hid_t type = sizeof(T) == 8 ? H5T_STD_U64LE : H5T_STD_U32LE;
  Hdf5Handle handle = column(name, sizes);
  std::size_t count = 1;
  for (auto size : sizes) count *= static_cast<std::size_t>(size);
  if (const auto* at = place(handle, type, static_cast<std::int64_t>(count * sizeof(T))))
    return {reinterpret_cast<const T*>(at), count};
  if (count > static_cast<std::size_t>(file_bytes)) bad(fmt::format("/{} has more entries than the file bytes", name));
  auto& memory = owned.emplace_back((count * sizeof(T) + 7) / 8);
  check(H5Dread(handle, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, memory.data()), name);
  return {reinterpret_cast<const T*>(memory.data()), count};
}

/// Stored tokens [first, first + count) through HDF5, whose serial build in Debian is thread-safe.
std::vector<std::uint8_t> ShardReader::Impl::fetch(std::int64_t first, std::int64_t count) const {
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(count * width));
  const Hdf5Quiet quiet;
  const auto start = static_cast<hsize_t>(first), size = static_cast<hsize_t>(count);
  Hdf5Handle from(H5Dget_space(token_column), H5Sclose), to(H5Screate_simple(1, &size, nullptr), H5Sclose);
  check(H5Sselect_hyperslab(from, H5S_SELECT_SET, &start, nullptr, &size, nullptr), "/tokens");
  check(H5Dread(token_column, width == 2 ? H5T_STD_U16LE : H5T_STD_U32LE, to, from, H5P_DEFAULT, bytes.data()),
        "/tokens");
  return bytes;
}

void ShardReader::Impl::verify_range(std::int64_t first, std::int64_t count) const {
  for (std::int64_t block = first; block < first + count; ++block) {
    if (verified && verified[static_cast<std::size_t>(block)].load(std::memory_order_relaxed)) continue;
    const std::int64_t start = block * block_bytes, size = std::min(block_bytes, tokens * width - start);
    std::vector<std::uint8_t> fetched;
    const std::uint8_t* bytes = mapped_tokens + start;
    if (!mapped_tokens) {
      fetched = fetch(start / width, size / width);
      bytes = fetched.data();
    }
    if (XXH3_64bits(bytes, static_cast<std::size_t>(size)) != checksums[static_cast<std::size_t>(block)])
      bad(
          fmt::format("block {} (tokens [{}, {})) does not match its checksum: the file was altered or damaged; make "
                      "it again or copy it anew",
                      block, start / width, (start + size) / width));
    if (verified) verified[static_cast<std::size_t>(block)].store(true, std::memory_order_relaxed);
  }
}

ShardReader::ShardReader(const std::filesystem::path& path, ReadOptions options) : impl_(std::make_unique<Impl>()) {
  impl_->path = path;
  impl_->open(options);
}
ShardReader::~ShardReader() = default;

const std::filesystem::path& ShardReader::path() const {
  return impl_->path;
}
const DatasetInfo& ShardReader::info() const {
  return impl_->info;
}
const std::string& ShardReader::split() const {
  return impl_->split;
}
std::int64_t ShardReader::tokens() const {
  return impl_->tokens;
}
std::int64_t ShardReader::documents() const {
  return impl_->documents;
}
std::int64_t ShardReader::file_bytes() const {
  return impl_->file_bytes;
}
bool ShardReader::mapped() const {
  return impl_->mapped_tokens != nullptr;
}
std::span<const std::uint64_t> ShardReader::doc_offsets() const {
  return impl_->offsets;
}
std::span<const std::uint32_t> ShardReader::doc_sources() const {
  return impl_->sources;
}
std::span<const std::uint32_t> ShardReader::doc_flags() const {
  return impl_->flags;
}
std::span<const std::uint64_t> ShardReader::doc_hashes() const {
  return impl_->hashes;
}
std::int64_t ShardReader::blocks() const {
  return static_cast<std::int64_t>(impl_->checksums.size());
}

void ShardReader::read(std::int64_t first, std::int64_t count, std::int32_t* out) const {
  const Impl& shard = *impl_;
  DUJIANG_CHECK(first >= 0 && count >= 0 && first <= shard.tokens && count <= shard.tokens - first,
                "{}: tokens [{}, {}) asked for, the shard holds {}", shard.path.string(), first, first + count,
                shard.tokens);
  if (count == 0) return;
  const std::int64_t start = first * shard.width;
  if (shard.verified) {
    const std::int64_t block = start / block_bytes, last = (start + count * shard.width - 1) / block_bytes;
    shard.verify_range(block, last - block + 1);
  }
  std::vector<std::uint8_t> fetched;
  const std::uint8_t* bytes = shard.mapped_tokens + start;
  if (!shard.mapped_tokens) {
    fetched = shard.fetch(first, count);
    bytes = fetched.data();
  }
  shard.width == 2 ? widen<std::uint16_t>(bytes, count, out) : widen<std::uint32_t>(bytes, count, out);
}

void ShardReader::verify_block(std::int64_t block) const {
  DUJIANG_CHECK(block >= 0 && block < blocks(), "{}: block {} asked for, the shard has {}", path().string(), block,
                blocks());
  impl_->verify_range(block, 1);
}

void ShardReader::verify() const {
  impl_->verify_range(0, blocks());
  for (std::int64_t d = 0; d < documents(); ++d)
    if (doc_offsets()[d] > doc_offsets()[d + 1]) impl_->bad(fmt::format("/doc_offsets fall after document {}", d));
  for (std::int64_t d = 0; d < documents(); ++d)
    if (doc_sources()[d] >= info().sources.size())
      impl_->bad(fmt::format("document {} names source {} of {}", d, doc_sources()[d], info().sources.size()));
  std::vector<std::int32_t> some(static_cast<std::size_t>(block_bytes));
  for (std::int64_t first = 0; first < tokens(); first += block_bytes) {
    const std::int64_t count = std::min(block_bytes, tokens() - first);
    read(first, count, some.data());
    for (std::int64_t i = 0; i < count; ++i)
      if (some[i] < 0 || some[i] >= info().vocab_size)
        impl_->bad(fmt::format("block {}: token {} is {}, outside the vocabulary [0, {})",
                               (first + i) * impl_->width / block_bytes, first + i, some[i], info().vocab_size));
  }
}

std::uint64_t hash_file(const std::filesystem::path& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(), XXH3_freeState);
  std::vector<char> buffer(static_cast<std::size_t>(block_bytes));
  XXH3_64bits_reset(state.get());
  if (file)
    while (const std::size_t count = std::fread(buffer.data(), 1, buffer.size(), file.get()))
      XXH3_64bits_update(state.get(), buffer.data(), count);
  if (!file || std::ferror(file.get())) fail_user("{}: cannot be read", path.string());
  return XXH3_64bits_digest(state.get());
}

}  // namespace dujiang::data
