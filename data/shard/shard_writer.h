#pragma once
// Writes one shard. Tokens are collected in memory and the file is made at the end, because a contiguous HDF5 dataset
// needs its length first: memory is about twice the shard's size during finish().

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "data/shard/shard_format.h"

namespace dujiang::data {

/// What finish() wrote; a row of the manifest.
struct ShardSummary {
  std::string file;  ///< the file's name, without its folder
  std::string split;
  std::int64_t documents = 0;
  std::int64_t tokens = 0;
  std::int64_t bytes = 0;  ///< the file's size
  std::uint64_t xxh3 = 0;  ///< XXH3-64 of the whole file
  bool operator==(const ShardSummary&) const = default;
};
void to_json(nlohmann::ordered_json& json, const ShardSummary& summary);
/// nlohmann::json::exception or UserError for a field that is missing or malformed.
void from_json(const nlohmann::ordered_json& json, ShardSummary& summary);

/// SPLIT-00000.h5 and so on: the name of a split's shard by its number.
std::string shard_name(const std::string& split, std::int64_t number);

class ShardWriter {
 public:
  /// Nothing is written before finish(). UserError for a vocabulary size outside [1, 2^31], or a pipeline that is not
  /// a JSON object. `expected_tokens` sets memory aside, which is taken as it fills.
  ShardWriter(std::filesystem::path path, std::string split, DatasetInfo info, std::int64_t expected_tokens = 0);

  /// Appends a document (copies it). UserError for a token or label outside the vocabulary, a source that is not
  /// listed, a weight that is not finite or below 0, a document without labels beside others with them.
  void add(const Document& document);

  std::int64_t documents() const { return static_cast<std::int64_t>(offsets_.size()) - 1; }
  std::int64_t tokens() const { return static_cast<std::int64_t>(offsets_.back()); }

  /// Writes PATH.tmp, fsyncs it and renames it to PATH: there is a whole shard or none. On failure (disk full, ...)
  /// removes PATH.tmp and throws Error naming the file. UserError when there are no tokens.
  ShardSummary finish();

 private:
  void check(const Document& document) const;
  std::uint32_t file_row(std::string_view path);

  std::filesystem::path path_;
  std::string split_;
  DatasetInfo info_;
  std::vector<std::uint8_t> tokens_;  // as stored: u16 or u32
  std::vector<std::uint64_t> offsets_{0};
  std::vector<std::uint64_t> hashes_;
  std::vector<std::uint32_t> sources_, flags_, files_;
  std::vector<float> qualities_;
  std::vector<std::uint64_t> clusters_, raw_offsets_, raw_bytes_;
  std::vector<std::uint8_t> encodings_, scripts_;
  std::string paths_;  // as stored
  std::map<std::string, std::uint32_t, std::less<>> file_rows_;
  std::vector<float> weights_;  // empty until a document brings some
  std::vector<std::int32_t> labels_;
};

}  // namespace dujiang::data
