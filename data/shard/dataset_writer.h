#pragma once
// Writes a dataset: a folder of shards, SPLIT-00000.h5 and so on, and manifest.json, which is written last: a folder
// without it holds no dataset.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "data/shard/manifest.h"
#include "data/shard/shard_format.h"
#include "data/shard/shard_writer.h"

namespace dujiang::data {

class DatasetWriter {
 public:
  static constexpr std::int64_t default_shard_tokens = std::int64_t{64} << 20;

  /// Creates the folder. Refuses (UserError) one that holds a manifest. Shards left there by a
  /// call that was cut short are removed. A split begins a new shard once the current one holds `shard_tokens`.
  DatasetWriter(std::filesystem::path folder, DatasetInfo info, std::int64_t shard_tokens = default_shard_tokens);

  /// Goes on with the dataset that is there: its shards stay, further ones follow them. UserError when it was made with
  /// another tokenizer.
  static DatasetWriter append(const std::filesystem::path& folder, DatasetInfo info,
                              std::int64_t shard_tokens = default_shard_tokens);

  /// Appends a document to a split (lower-case letters, digits and '_'; by custom "train" and "valid"). Throws as
  /// ShardWriter does.
  void add(const std::string& split, const Document& document);

  /// Writes what is left and the manifest. UserError when there are no documents, or a split has no tokens.
  Manifest finish();

 private:
  DatasetWriter(std::filesystem::path folder, DatasetInfo info, std::int64_t shard_tokens, Manifest before);

  std::filesystem::path folder_;
  DatasetInfo info_;
  std::int64_t shard_tokens_;
  Manifest before_;  // what was there
  std::map<std::string, ShardWriter> open_;
  std::map<std::string, std::int64_t> started_;
  std::vector<ShardSummary> shards_;
};

}  // namespace dujiang::data
