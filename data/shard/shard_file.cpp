#include "data/shard/shard_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "data/shard/shard_format.h"

namespace dujiang::data {

Mapping::Mapping(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  struct stat status {};
  if (::fstat(fd, &status) == 0 && status.st_size > 0) {
    void* at = ::mmap(nullptr, static_cast<std::size_t>(status.st_size), PROT_READ, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED) bytes_ = {static_cast<const std::uint8_t*>(at), static_cast<std::size_t>(status.st_size)};
  }
  ::close(fd);
}

Mapping::~Mapping() {
  if (!bytes_.empty()) ::munmap(const_cast<std::uint8_t*>(bytes_.data()), bytes_.size());
}

ShardFile::ShardFile(std::filesystem::path path, bool map) : path_(std::move(path)) {
  std::error_code error;
  bytes_ = static_cast<std::int64_t>(std::filesystem::file_size(path_, error));
  if (error) bad(fmt::format("cannot be opened: {}", error.message()));
  Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_file_locking(access, false, true);  // shards never change, and some network file systems cannot lock
  file_ = {H5Fopen(path_.c_str(), H5F_ACC_RDONLY, access), H5Fclose};
  check(file_, "the file");
  if (map) mapping_ = std::make_unique<Mapping>(path_);
}

void ShardFile::check(hid_t result, const char* what) const {
  if (result < 0) bad(fmt::format("{} cannot be read ({}): not a token shard, or damaged", what, hdf5_reason()));
}

bool ShardFile::has(const char* name) const {
  // A path's parts are asked for one by one: H5Lexists fails when a parent is missing.
  const std::string path = name;
  for (auto end = path.find('/');; end = path.find('/', end + 1)) {
    if (H5Lexists(file_, path.substr(0, end).c_str(), H5P_DEFAULT) <= 0) return false;
    if (end == path.npos) return true;
  }
}

std::int64_t ShardFile::number(const char* name) const {
  Hdf5Handle attribute(H5Aopen(file_, name, H5P_DEFAULT), H5Aclose);
  check(attribute, name);
  Hdf5Handle space(H5Aget_space(attribute), H5Sclose);
  if (H5Sget_simple_extent_npoints(space) != 1) bad(fmt::format("attribute {} is not one number", name));
  std::int64_t value = 0;
  check(H5Aread(attribute, H5T_NATIVE_INT64, &value), name);
  return value;
}

std::string ShardFile::text(const char* name) const {
  Hdf5Handle attribute(H5Aopen(file_, name, H5P_DEFAULT), H5Aclose);
  check(attribute, name);
  Hdf5Handle type(H5Aget_type(attribute), H5Tclose), space(H5Aget_space(attribute), H5Sclose);
  if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) || H5Sget_simple_extent_npoints(space) != 1)
    bad(fmt::format("attribute {} is not a string of fixed length", name));
  std::string value(H5Tget_size(type), '\0');
  check(H5Aread(attribute, type, value.data()), name);
  return value.substr(0, value.find('\0'));
}

std::vector<std::string> ShardFile::texts(const char* name) const {
  Hdf5Handle column(H5Dopen2(file_, name, H5P_DEFAULT), H5Dclose);
  check(column, name);
  Hdf5Handle type(H5Dget_type(column), H5Tclose), space(H5Dget_space(column), H5Sclose);
  const std::int64_t width = static_cast<std::int64_t>(H5Tget_size(type)), count = H5Sget_simple_extent_npoints(space);
  if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) || count < 0 || width * count > bytes_)
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

Hdf5Handle ShardFile::column(const char* name, const std::vector<std::int64_t>& sizes) const {
  Hdf5Handle column(H5Dopen2(file_, name, H5P_DEFAULT), H5Dclose);
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

std::int64_t ShardFile::length(const char* name) const {
  Hdf5Handle column(H5Dopen2(file_, name, H5P_DEFAULT), H5Dclose);
  check(column, name);
  Hdf5Handle space(H5Dget_space(column), H5Sclose);
  return H5Sget_simple_extent_npoints(space);
}

const std::uint8_t* ShardFile::place(hid_t column, hid_t type, std::int64_t bytes) const {
  Hdf5Handle stored(H5Dget_type(column), H5Tclose);
  const haddr_t offset = H5Dget_offset(column);
  if (!mapping_ || mapping_->bytes().empty() || offset == HADDR_UNDEF || H5Tequal(stored, type) <= 0) return nullptr;
  const std::size_t size = mapping_->bytes().size();
  if (offset > size || static_cast<std::size_t>(bytes) > size - offset)
    bad(fmt::format("truncated: a column needs bytes [{}, {}), the file has {}", offset,
                    offset + static_cast<haddr_t>(bytes), size));
  return offset % H5Tget_size(type) == 0 ? mapping_->bytes().data() + offset : nullptr;
}

void ShardFile::read_ahead(const std::uint8_t* first, std::int64_t count) const {
  const int fd = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  // Reads into memory of our own: a kernel reads further and in larger pages for them than on advice or page faults.
  std::vector<std::uint8_t> buffer(static_cast<std::size_t>(block_bytes));
  for (auto at = first - mapping_->bytes().data(), end = at + count; at < end; at += block_bytes)
    if (::pread(fd, buffer.data(), static_cast<std::size_t>(std::min(block_bytes, end - at)), at) <= 0) break;
  ::close(fd);
}

const void* ShardFile::load(const char* name, const std::vector<std::int64_t>& sizes, hid_t type, std::size_t bytes) {
  Hdf5Handle handle = column(name, sizes);
  if (const auto* at = place(handle, type, static_cast<std::int64_t>(bytes))) return at;
  if (bytes / H5Tget_size(type) > static_cast<std::size_t>(bytes_))
    bad(fmt::format("/{} has more entries than the file bytes", name));
  auto& memory = owned_.emplace_back((bytes + 7) / 8);
  check(H5Dread(handle, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, memory.data()), name);
  return memory.data();
}

TokenColumn::TokenColumn(ShardFile& file, const char* name, const char* checksums_name, hid_t type, std::int64_t tokens,
                         ReadOptions options)
    : file_(&file),
      name_(name),
      tokens_(tokens),
      width_(static_cast<std::int64_t>(H5Tget_size(type))),
      verify_(options.verify_blocks) {
  column_ = file.column(name, {tokens});
  Hdf5Handle stored(H5Dget_type(column_), H5Tclose);
  if (H5Tequal(stored, type) <= 0) file.bad(fmt::format("/{} is of another type than its {} bytes", name, width_));
  mapped_ = file.place(column_, type, tokens * width_);
  const std::int64_t blocks = (tokens * width_ + block_bytes - 1) / block_bytes;
  checksums_ = file.load<std::uint64_t>(checksums_name, {blocks});
  ahead_ = mapped_ && options.read_ahead;
  if (verify_ || ahead_)
    seen_ = std::make_unique<std::atomic<std::uint32_t>[]>(static_cast<std::size_t>(blocks / window_blocks + 1));
  if (mapped_)
    column_ = {};
  else
    type_ = {H5Tcopy(type), H5Tclose};
}

/// Rows [first, first + count) through HDF5, whose serial build in Debian is thread-safe.
std::vector<std::uint8_t> TokenColumn::fetch(std::int64_t first, std::int64_t count) const {
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(count * width_));
  const Hdf5Quiet quiet;
  const auto start = static_cast<hsize_t>(first), size = static_cast<hsize_t>(count);
  Hdf5Handle from(H5Dget_space(column_), H5Sclose), to(H5Screate_simple(1, &size, nullptr), H5Sclose);
  file_->check(H5Sselect_hyperslab(from, H5S_SELECT_SET, &start, nullptr, &size, nullptr), name_);
  file_->check(H5Dread(column_, type_, to, from, H5P_DEFAULT, bytes.data()), name_);
  return bytes;
}

void TokenColumn::first_use(std::int64_t block) const {
  if (verify_) return verify_block(block);
  read_ahead(block);
  set_seen(block);
}

void TokenColumn::read_ahead(std::int64_t block) const {
  if (seen_[block / window_blocks].load(std::memory_order_relaxed) != 0) return;
  const std::int64_t start = block / window_blocks * window_blocks * block_bytes;
  file_->read_ahead(mapped_ + start, std::min(window_blocks * block_bytes, tokens_ * width_ - start));
}

void TokenColumn::verify_block(std::int64_t block) const {
  if (ahead_) read_ahead(block);
  const std::int64_t start = block * block_bytes, size = std::min(block_bytes, tokens_ * width_ - start);
  const auto rows =
      fmt::format("/{}: block {} (tokens [{}, {}))", name_, block, start / width_, (start + size) / width_);
  std::vector<std::uint8_t> fetched;
  const std::uint8_t* bytes = mapped_ + start;
  if (!mapped_) {
    fetched = fetch(start / width_, size / width_);
    bytes = fetched.data();
  } else {
    // Brings the block in at once, and tells of a file that has become shorter, or of a disk that fails, where a read
    // would raise SIGBUS. Kernels before 5.14 know no such advice.
    static const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    const auto at = reinterpret_cast<std::uintptr_t>(bytes) / page * page;
    const auto length = reinterpret_cast<std::uintptr_t>(bytes) + static_cast<std::uintptr_t>(size) - at;
    if (::madvise(reinterpret_cast<void*>(at), length, MADV_POPULATE_READ) != 0 &&
        (errno == EFAULT || errno == EHWPOISON))
      file_->bad(
          fmt::format("{} cannot be read ({}): the file has become shorter since it was opened, or its disk fails",
                      rows, std::strerror(errno)));
  }
  if (XXH3_64bits(bytes, static_cast<std::size_t>(size)) != checksums_[static_cast<std::size_t>(block)])
    file_->bad(
        fmt::format("{} does not match its checksum: the file was altered or damaged; make it again or copy it "
                    "anew",
                    rows));
  if (seen_) set_seen(block);
}

}  // namespace dujiang::data
