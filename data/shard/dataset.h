#pragma once
// A dataset's folder opened for reading one split. Documents are numbered over all shards of the split, in the
// manifest's order. All const functions are thread-safe.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/shard/manifest.h"
#include "data/shard/shard_reader.h"

namespace dujiang::data {

class Dataset {
 public:
  /// Reads the manifest and opens the split's shards. UserError naming the file: no manifest, no such split, a shard
  /// that is missing, truncated, of another tokenizer or with other counts than the manifest says. Files that take
  /// more than half of the machine's memory are not read ahead.
  Dataset(const std::filesystem::path& folder, const std::string& split, ReadOptions options = {});

  const std::filesystem::path& folder() const { return folder_; }
  const std::string& split() const { return split_; }
  const DatasetInfo& info() const { return info_; }
  std::int64_t documents() const { return first_document_.back(); }
  std::int64_t tokens() const { return tokens_; }

  /// Where a document's tokens are: [start, start + tokens) of a shard.
  struct Place {
    const ShardReader* shard;
    std::int64_t start, tokens;
    std::int64_t document;  ///< its row in the shard's columns
  };
  /// UserError naming the shard when its offsets are damaged; Error outside [0, documents()).
  Place locate(std::int64_t document) const;

  /// 16 hex digits: equal for equal documents in equal order, made with the same tokenizer.
  const std::string& fingerprint() const { return fingerprints_.back(); }
  /// Of the split's first `shards` shards (at least 1): what it was before it grew.
  const std::string& fingerprint(std::int64_t shards) const { return fingerprints_[static_cast<std::size_t>(shards)]; }
  bool has_loss_weights() const { return has_loss_weights_; }   ///< in some shard
  bool has_labels() const { return shards_[0]->has_labels(); }  ///< in every shard
  const std::vector<std::unique_ptr<ShardReader>>& shards() const { return shards_; }

 private:
  std::filesystem::path folder_;
  std::string split_;
  DatasetInfo info_;
  std::vector<std::unique_ptr<ShardReader>> shards_;
  std::vector<std::int64_t> first_document_;  // per shard, and the total
  std::int64_t tokens_ = 0;
  std::vector<std::string> fingerprints_;  // by number of shards
  bool has_loss_weights_ = false;
};

struct VerifyReport {
  std::int64_t files = 0, documents = 0, tokens = 0, bytes = 0;
};

/// Checks everything a dataset holds: the manifest, each shard's size, counts, token blocks and whole-file checksum.
/// UserError at the first fault, naming file and, where it lies in tokens, block.
VerifyReport verify(const std::filesystem::path& folder);

}  // namespace dujiang::data
