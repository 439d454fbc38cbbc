#include "data/shard/shard_writer.h"

#include <hdf5.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <tuple>

#include "data/shard/hdf5_handle.h"
#include "data/shard/manifest.h"
#include "framework/base/check.h"
#include "framework/base/files.h"

namespace dujiang::data {
namespace {

/// Attributes live in the root's object header, which holds at most 64 KiB.
constexpr std::size_t longest_pipeline = 60000;

/// Builds the HDF5 file in memory. Every failure here is a failure of the machine.
class Builder {
 public:
  Builder(std::string path, std::size_t expected_bytes) : path_(std::move(path)) {
    Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
    // In memory: HDF5 1.10 cannot be closed cleanly on a full disk, a plain write can.
    check(H5Pset_fapl_core(access, expected_bytes, 0));
    check(H5Pset_alignment(access, 1, 64));
    // Without times: the same documents give the same bytes, hence the same fingerprint.
    Hdf5Handle creation(H5Pcreate(H5P_FILE_CREATE), H5Pclose);
    check(H5Pset_obj_track_times(creation, false));
    plain_ = {H5Pcreate(H5P_DATASET_CREATE), H5Pclose};
    check(H5Pset_obj_track_times(plain_, false));
    file_ = {H5Fcreate(path_.c_str(), H5F_ACC_TRUNC, creation, access), H5Fclose};
    check(file_);
  }

  void group(const char* name) {
    Hdf5Handle group(H5Gcreate2(file_, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), H5Gclose);
    check(group);
  }

  void column(const char* name, hid_t type, std::vector<hsize_t> sizes, const void* data) {
    Hdf5Handle space(H5Screate_simple(static_cast<int>(sizes.size()), sizes.data(), nullptr), H5Sclose);
    Hdf5Handle column(H5Dcreate2(file_, name, type, space, H5P_DEFAULT, plain_, H5P_DEFAULT), H5Dclose);
    check(column);
    check(H5Dwrite(column, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data));
  }

  /// A column with a row per token, and the checksums of its blocks.
  void token_column(const char* name, const char* checksums_name, hid_t type, const void* data, std::size_t width,
                    std::size_t tokens) {
    const auto* bytes = static_cast<const std::uint8_t*>(data);
    const std::size_t size = tokens * width;
    std::vector<std::uint64_t> checksums;
    for (std::size_t at = 0; at < size; at += block_bytes)
      checksums.push_back(XXH3_64bits(bytes + at, std::min<std::size_t>(block_bytes, size - at)));
    column(name, type, {tokens}, data);
    column(checksums_name, H5T_STD_U64LE, {checksums.size()}, checksums.data());
  }

  void strings(const char* name, const std::vector<std::string>& values) {
    std::size_t width = 1;
    for (const auto& value : values) width = std::max(width, value.size());
    std::string packed(width * values.size(), '\0');
    for (std::size_t i = 0; i < values.size(); ++i) packed.replace(i * width, values[i].size(), values[i]);
    column(name, text_type(width), {values.size()}, packed.data());
  }

  void attribute(const char* name, std::int64_t value) {
    const auto unsigned_value = static_cast<std::uint64_t>(value);
    attribute(name, H5T_STD_U64LE, &unsigned_value);
  }
  void attribute(const char* name, const std::string& value) {
    attribute(name, text_type(std::max<std::size_t>(value.size(), 1)), value.c_str());
  }

  /// Valid until the next call.
  std::span<const std::uint8_t> image() {
    check(H5Fflush(file_, H5F_SCOPE_GLOBAL));
    const ssize_t size = H5Fget_file_image(file_, nullptr, 0);
    void* memory = nullptr;  // the core driver hands out the address of its buffer pointer
    check(std::min<hid_t>(size, H5Fget_vfd_handle(file_, H5P_DEFAULT, &memory)));
    return {*static_cast<std::uint8_t**>(memory), static_cast<std::size_t>(size)};
  }

 private:
  void check(hid_t result) {
    if (result < 0) fail("cannot build shard {}: {}", path_, hdf5_reason());
  }
  Hdf5Handle text_type(std::size_t width) {
    Hdf5Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
    check(H5Tset_size(type, width));
    check(H5Tset_strpad(type, H5T_STR_NULLPAD));
    check(H5Tset_cset(type, H5T_CSET_UTF8));
    return type;
  }
  void attribute(const char* name, hid_t type, const void* value) {
    Hdf5Handle space(H5Screate(H5S_SCALAR), H5Sclose);
    Hdf5Handle attribute(H5Acreate2(file_, name, type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
    check(attribute);
    check(H5Awrite(attribute, type, value));
  }

  std::string path_;
  Hdf5Handle plain_, file_;
};

template <class T>
void append(std::vector<std::uint8_t>& bytes, std::span<const std::int32_t> tokens) {
  std::array<T, 2048> some;  // in the nearest cache, so that nothing passes through memory twice
  while (!tokens.empty()) {
    const std::size_t count = std::min(tokens.size(), some.size());
    for (std::size_t i = 0; i < count; ++i) some[i] = static_cast<T>(tokens[i]);
    const auto* from = reinterpret_cast<const std::uint8_t*>(some.data());
    bytes.insert(bytes.end(), from, from + count * sizeof(T));
    tokens = tokens.subspan(count);
  }
}

}  // namespace

ShardWriter::ShardWriter(std::filesystem::path path, std::string split, DatasetInfo info, std::int64_t expected_tokens)
    : path_(std::move(path)), split_(std::move(split)), info_(std::move(info)) {
  if (info_.vocab_size < 1 || info_.vocab_size > (std::int64_t{1} << 31))
    fail_user("{}: vocabulary size {} is outside [1, 2^31]", path_.string(), info_.vocab_size);
  if (info_.pipeline.size() > longest_pipeline)
    fail_user("{}: the pipeline settings take {} bytes; at most {} can be stored", path_.string(),
              info_.pipeline.size(), longest_pipeline);
  const auto pipeline = nlohmann::ordered_json::parse(info_.pipeline, nullptr, false);
  if (!pipeline.is_object())
    fail_user("{}: the pipeline settings are not a JSON object: {:.80}", path_.string(), info_.pipeline);
  info_.pipeline = pipeline.dump();  // one spelling, so that shard and manifest can be compared
  constexpr std::int64_t most = std::int64_t{256} << 20;
  tokens_.reserve(
      static_cast<std::size_t>(std::clamp<std::int64_t>(expected_tokens, 0, most) * token_bytes(info_.vocab_size)));
}

std::uint32_t ShardWriter::file_row(std::string_view path) {
  const auto found = file_rows_.find(path);
  if (found != file_rows_.end()) return found->second;
  if (path.find('\0') != path.npos)
    fail_user("{}: a source file's path holds a zero byte: {:.200}", path_.string(), path);
  (paths_ += path) += '\0';
  const auto row = static_cast<std::uint32_t>(file_rows_.size());
  file_rows_.emplace(path, row);
  return row;
}

void ShardWriter::check(const Document& document) const {
  const auto refuse = [&]<class... Args>(fmt::format_string<Args...> what, Args&&... args) {
    fail_user("{}: document {} {}", path_.string(), documents(), fmt::format(what, std::forward<Args>(args)...));
  };
  const auto fits = [&](std::int32_t token) { return token >= 0 && token < info_.vocab_size; };
  const auto& [tokens, weights, labels] = std::tie(document.tokens, document.loss_weight, document.labels);
  if (document.source >= info_.sources.size())
    refuse("names source {}, but {} are listed", document.source, info_.sources.size());
  std::uint32_t highest =
      0;  // negative ones are high: a loop that the compiler makes fast, and a second one for faults
  for (const std::int32_t token : tokens) highest = std::max(highest, static_cast<std::uint32_t>(token));
  for (std::size_t i = 0; highest >= info_.vocab_size && i < tokens.size(); ++i)
    if (!fits(tokens[i])) refuse("has token {} at {}, outside the vocabulary [0, {})", tokens[i], i, info_.vocab_size);
  if (!weights.empty() && weights.size() != tokens.size())
    refuse("has {} loss weights for {} tokens", weights.size(), tokens.size());
  for (std::size_t i = 0; i < weights.size(); ++i)
    if (!std::isfinite(weights[i]) || weights[i] < 0)
      refuse("has loss weight {} at {}, expected a finite one of at least 0", weights[i], i);
  if (!labels.empty() && labels.size() != tokens.size())
    refuse("has {} labels for {} tokens", labels.size(), tokens.size());
  if (!tokens.empty() && this->tokens() > 0 && labels.empty() != labels_.empty())
    refuse("has {}, unlike those before it: all documents bring labels or none", labels.empty() ? "none" : "labels");
  for (std::size_t i = 0; i < labels.size(); ++i)
    if (!fits(labels[i]) && labels[i] != no_label)
      refuse("has label {} at {}, expected {} or one in the vocabulary [0, {})", labels[i], i, no_label,
             info_.vocab_size);
}

void ShardWriter::add(const Document& document) {
  check(document);
  if (!document.loss_weight.empty()) {
    weights_.resize(offsets_.back(), 1.0f);  // of the documents before, which brought none
    weights_.insert(weights_.end(), document.loss_weight.begin(), document.loss_weight.end());
  } else if (!weights_.empty()) {
    weights_.resize(weights_.size() + document.tokens.size(), 1.0f);
  }
  labels_.insert(labels_.end(), document.labels.begin(), document.labels.end());
  token_bytes(info_.vocab_size) == 2 ? append<std::uint16_t>(tokens_, document.tokens)
                                     : append<std::uint32_t>(tokens_, document.tokens);
  offsets_.push_back(offsets_.back() + document.tokens.size());
  hashes_.insert(hashes_.end(), document.hash.begin(), document.hash.end());
  sources_.push_back(document.source);
  flags_.push_back(document.flags);
  qualities_.push_back(document.quality);
  clusters_.push_back(document.cluster);
  files_.push_back(file_row(document.file));
  raw_offsets_.push_back(document.offset);
  raw_bytes_.push_back(document.bytes);
  encodings_.push_back(document.encoding);
  scripts_.push_back(document.script);
}

ShardSummary ShardWriter::finish() {
  if (tokens() == 0)
    fail_user("{}: no text for split '{}': {} documents hold no tokens", path_.string(), split_, documents());
  std::vector<std::string> names, licences, sha256s;
  for (const auto& source : info_.sources) {
    names.push_back(source.name);
    licences.push_back(source.licence);
    sha256s.push_back(source.sha256);
  }

  const Hdf5Quiet quiet;
  const auto count = static_cast<hsize_t>(documents());
  const std::size_t beside = (weights_.size() + labels_.size()) * 4;
  Builder builder(path_.string(), tokens_.size() + beside + count * 80 + paths_.size() + (std::size_t{1} << 16));
  const auto width = static_cast<std::size_t>(token_bytes(info_.vocab_size));
  builder.token_column("tokens", "block_xxh3", width == 2 ? H5T_STD_U16LE : H5T_STD_U32LE, tokens_.data(), width,
                       tokens_.size() / width);
  builder.column("doc_offsets", H5T_STD_U64LE, {count + 1}, offsets_.data());
  builder.group("doc");
  builder.column("doc/source", H5T_STD_U32LE, {count}, sources_.data());
  builder.column("doc/hash", H5T_STD_U64LE, {count, 2}, hashes_.data());
  builder.column("doc/flags", H5T_STD_U32LE, {count}, flags_.data());
  builder.column("doc/quality", H5T_IEEE_F32LE, {count}, qualities_.data());
  builder.column("doc/cluster", H5T_STD_U64LE, {count}, clusters_.data());
  builder.column("doc/file", H5T_STD_U32LE, {count}, files_.data());
  builder.column("doc/offset", H5T_STD_U64LE, {count}, raw_offsets_.data());
  builder.column("doc/bytes", H5T_STD_U64LE, {count}, raw_bytes_.data());
  builder.column("doc/encoding", H5T_STD_U8LE, {count}, encodings_.data());
  builder.column("doc/script", H5T_STD_U8LE, {count}, scripts_.data());
  if (beside > 0) builder.group("token");
  if (!weights_.empty())
    builder.token_column("token/loss_weight", "token/loss_weight_xxh3", H5T_IEEE_F32LE, weights_.data(), 4,
                         weights_.size());
  if (!labels_.empty())
    builder.token_column("token/label", "token/label_xxh3", H5T_STD_I32LE, labels_.data(), 4, labels_.size());
  builder.group("sources");
  builder.strings("sources/name", names);
  builder.strings("sources/licence", licences);
  builder.strings("sources/sha256", sha256s);
  builder.group("files");
  builder.column("files/path", H5T_STD_U8LE, {paths_.size()}, paths_.data());
  builder.attribute("format_version", static_cast<std::int64_t>(shard_format_version));
  builder.attribute("vocab_size", info_.vocab_size);
  builder.attribute("documents", documents());
  builder.attribute("tokens", tokens());
  builder.attribute("tokenizer_sha256", info_.tokenizer_sha256);
  builder.attribute("split", split_);
  builder.attribute("pipeline", info_.pipeline);

  const auto image = builder.image();
  write_file(path_, {reinterpret_cast<const char*>(image.data()), image.size()});
  return {path_.filename().string(),
          split_,
          documents(),
          tokens(),
          static_cast<std::int64_t>(image.size()),
          XXH3_64bits(image.data(), image.size())};
}

std::string shard_name(const std::string& split, std::int64_t number) {
  return fmt::format("{}-{:05}.h5", split, number);
}

}  // namespace dujiang::data
