#include "data/shard/shard_reader.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "data/shard/shard_file.h"

namespace dujiang::data {
namespace {

template <class T>
void widen(const void* from, std::int64_t count, std::int32_t* out) {
  const T* tokens = static_cast<const T*>(from);
  for (std::int64_t i = 0; i < count; ++i) out[i] = static_cast<std::int32_t>(tokens[i]);
}

}  // namespace

struct ShardReader::Impl {
  Impl(const std::filesystem::path& path, ReadOptions options);

  ShardFile file;
  DatasetInfo info;
  std::string split;
  std::int64_t tokens = 0, documents = 0;
  TokenColumn ids, weights, labels;
  std::span<const std::uint64_t> offsets, hashes, clusters, raw_offsets, raw_bytes;
  std::span<const std::uint32_t> sources, flags, file_rows;
  std::span<const float> qualities;
  std::span<const std::uint8_t> encodings, scripts;
  std::vector<std::string_view> files;

  void open(bool verify);
  void check_range(std::int64_t first, std::int64_t count) const {
    DUJIANG_CHECK(first >= 0 && count >= 0 && first <= tokens && count <= tokens - first,
                  "{}: tokens [{}, {}) asked for, the shard holds {}", file.path().string(), first, first + count,
                  tokens);
  }
};

ShardReader::Impl::Impl(const std::filesystem::path& path, ReadOptions options) : file(path, options.map) {
  const auto version = file.number("format_version");
  if (version != static_cast<std::int64_t>(shard_format_version))
    file.bad(fmt::format("format version is {}, this program reads {}: build the dataset again", version,
                         shard_format_version));
  info.vocab_size = file.number("vocab_size");
  tokens = file.number("tokens");
  documents = file.number("documents");
  if (info.vocab_size < 1 || info.vocab_size > (std::int64_t{1} << 31) || tokens < 1 || documents < 1)
    file.bad(fmt::format("vocab_size {}, tokens {}, documents {}: damaged", info.vocab_size, tokens, documents));
  info.tokenizer_sha256 = file.text("tokenizer_sha256");
  info.pipeline = file.text("pipeline");
  split = file.text("split");
  const auto names = file.texts("sources/name"), licences = file.texts("sources/licence"),
             sha256s = file.texts("sources/sha256");
  if (licences.size() != names.size() || sha256s.size() != names.size())
    file.bad("the columns of /sources differ in length");
  for (std::size_t i = 0; i < names.size(); ++i) info.sources.push_back({names[i], licences[i], sha256s[i]});

  ids = {file,   "tokens", "block_xxh3", token_bytes(info.vocab_size) == 2 ? H5T_STD_U16LE : H5T_STD_U32LE,
         tokens, options};
  if (file.has("token/loss_weight"))
    weights = {file, "token/loss_weight", "token/loss_weight_xxh3", H5T_IEEE_F32LE, tokens, options};
  if (file.has("token/label")) labels = {file, "token/label", "token/label_xxh3", H5T_STD_I32LE, tokens, options};

  offsets = file.load<std::uint64_t>("doc_offsets", {documents + 1});
  if (offsets.front() != 0 || offsets.back() != static_cast<std::uint64_t>(tokens))
    file.bad(fmt::format("/doc_offsets run from {} to {}, expected 0 to {}", offsets.front(), offsets.back(), tokens));
  hashes = file.load<std::uint64_t>("doc/hash", {documents, 2});
  sources = file.load<std::uint32_t>("doc/source", {documents});
  flags = file.load<std::uint32_t>("doc/flags", {documents});
  qualities = file.load<float>("doc/quality", {documents});
  clusters = file.load<std::uint64_t>("doc/cluster", {documents});
  file_rows = file.load<std::uint32_t>("doc/file", {documents});
  raw_offsets = file.load<std::uint64_t>("doc/offset", {documents});
  raw_bytes = file.load<std::uint64_t>("doc/bytes", {documents});
  encodings = file.load<std::uint8_t>("doc/encoding", {documents});
  scripts = file.load<std::uint8_t>("doc/script", {documents});
  const auto paths = file.load<std::uint8_t>("files/path", {file.length("files/path")});
  if (paths.empty() || paths.back() != 0) file.bad("/files/path does not end in a 0");
  for (const auto* at = reinterpret_cast<const char*>(paths.data()); at < reinterpret_cast<const char*>(&*paths.end());
       at += files.back().size() + 1)
    files.emplace_back(at);
  if (ids.mapped() && (!weights.present() || weights.mapped()) && (!labels.present() || labels.mapped())) file.close();
}

ShardReader::ShardReader(const std::filesystem::path& path, ReadOptions options) {
  const Hdf5Quiet quiet;
  impl_ = std::make_unique<Impl>(path, options);
}
ShardReader::~ShardReader() = default;

const std::filesystem::path& ShardReader::path() const {
  return impl_->file.path();
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
  return impl_->file.bytes();
}
bool ShardReader::mapped() const {
  return impl_->ids.mapped();
}
bool ShardReader::has_loss_weights() const {
  return impl_->weights.present();
}
bool ShardReader::has_labels() const {
  return impl_->labels.present();
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
std::span<const float> ShardReader::doc_qualities() const {
  return impl_->qualities;
}
std::span<const std::uint64_t> ShardReader::doc_clusters() const {
  return impl_->clusters;
}
std::span<const std::uint32_t> ShardReader::doc_files() const {
  return impl_->file_rows;
}
std::span<const std::uint64_t> ShardReader::doc_raw_offsets() const {
  return impl_->raw_offsets;
}
std::span<const std::uint64_t> ShardReader::doc_raw_bytes() const {
  return impl_->raw_bytes;
}
std::span<const std::uint8_t> ShardReader::doc_encodings() const {
  return impl_->encodings;
}
std::span<const std::uint8_t> ShardReader::doc_scripts() const {
  return impl_->scripts;
}
std::span<const std::string_view> ShardReader::files() const {
  return impl_->files;
}
std::int64_t ShardReader::blocks() const {
  return impl_->ids.blocks();
}

void ShardReader::read(std::int64_t first, std::int64_t count, std::int32_t* out) const {
  impl_->check_range(first, count);
  impl_->ids.read(first, count, [&](const std::uint8_t* bytes) {
    token_bytes(impl_->info.vocab_size) == 2 ? widen<std::uint16_t>(bytes, count, out)
                                             : widen<std::uint32_t>(bytes, count, out);
  });
}

void ShardReader::prefetch(std::int64_t first, std::int64_t count) const {
  impl_->ids.prefetch(first, count);
}

void ShardReader::read_loss_weights(std::int64_t first, std::int64_t count, float* out) const {
  impl_->check_range(first, count);
  if (!has_loss_weights()) {
    std::fill_n(out, count, 1.0f);
    return;
  }
  impl_->weights.read(first, count, [&](const std::uint8_t* bytes) {
    std::memcpy(out, bytes, static_cast<std::size_t>(count) * sizeof *out);
  });
}

void ShardReader::read_labels(std::int64_t first, std::int64_t count, std::int32_t* out) const {
  impl_->check_range(first, count);
  DUJIANG_CHECK(has_labels(), "{}: has no labels", path().string());
  impl_->labels.read(first, count, [&](const std::uint8_t* bytes) {
    std::memcpy(out, bytes, static_cast<std::size_t>(count) * sizeof *out);
  });
}

void ShardReader::verify_block(std::int64_t block) const {
  DUJIANG_CHECK(block >= 0 && block < blocks(), "{}: block {} asked for, the shard has {}", path().string(), block,
                blocks());
  impl_->ids.verify_block(block);
}

void ShardReader::verify() const {
  const auto bad = [&]<class... Args>(fmt::format_string<Args...> what, Args&&... args) {
    impl_->file.bad(fmt::format(what, std::forward<Args>(args)...));
  };
  for (const auto* column : {&impl_->ids, &impl_->weights, &impl_->labels})
    for (std::int64_t block = 0; block < column->blocks(); ++block) column->verify_block(block);
  for (std::int64_t d = 0; d < documents(); ++d) {
    const auto at = static_cast<std::size_t>(d);
    if (doc_offsets()[at] > doc_offsets()[at + 1]) bad("/doc_offsets fall after document {}", d);
    if (doc_sources()[at] >= info().sources.size())
      bad("document {} names source {} of {}", d, doc_sources()[at], info().sources.size());
    if (doc_files()[at] >= files().size()) bad("document {} names file {} of {}", d, doc_files()[at], files().size());
  }
  const auto vocabulary = info().vocab_size;
  std::vector<std::int32_t> some(static_cast<std::size_t>(std::min(block_bytes, tokens())));
  std::vector<float> weights(has_loss_weights() ? some.size() : 0);
  for (std::int64_t first = 0; first < tokens(); first += block_bytes) {
    const std::int64_t count = std::min(block_bytes, tokens() - first);
    read(first, count, some.data());
    for (std::int64_t i = 0; i < count; ++i)
      if (const auto token = some[static_cast<std::size_t>(i)]; token < 0 || token >= vocabulary)
        bad("block {}: token {} is {}, outside the vocabulary [0, {})",
            (first + i) * token_bytes(vocabulary) / block_bytes, first + i, token, vocabulary);
    if (has_labels()) {
      read_labels(first, count, some.data());
      for (std::int64_t i = 0; i < count; ++i)
        if (const auto label = some[static_cast<std::size_t>(i)];
            label != no_label && (label < 0 || label >= vocabulary))
          bad("label {} is {}, outside the vocabulary [0, {})", first + i, label, vocabulary);
    }
    if (has_loss_weights()) {
      read_loss_weights(first, count, weights.data());
      for (std::int64_t i = 0; i < count; ++i)
        if (const auto weight = weights[static_cast<std::size_t>(i)]; !std::isfinite(weight) || weight < 0)
          bad("loss weight {} is {}", first + i, weight);
    }
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
