#pragma once
// manifest.json: the list of a dataset's shards and what they share.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/shard/shard_format.h"
#include "data/shard/shard_writer.h"

namespace dujiang::data {

struct Manifest {
  DatasetInfo info;
  std::vector<ShardSummary> shards;  ///< by split, then in the order of writing

  std::int64_t documents(const std::string& split) const;
  std::int64_t tokens(const std::string& split) const;
  std::int64_t shard_count(const std::string& split) const;
  /// The number of a further shard: above those there, among which some may be missing.
  std::int64_t next_number(const std::string& split) const;
  /// The names of the splits, sorted.
  std::vector<std::string> splits() const;
};

/// What `manifest` becomes when a dataset grows: further shards of a split stand after those that were there, and
/// further sources too. UserError when `info` is of another tokenizer or a shard's name is taken.
Manifest extended(Manifest manifest, const DatasetInfo& info, std::vector<ShardSummary> added);

/// FOLDER/manifest.json. UserError naming the file and the field when it is missing or malformed.
Manifest read_manifest(const std::filesystem::path& folder);
/// Written beside, fsynced, renamed. Error naming the file on failure.
void write_manifest(const std::filesystem::path& folder, const Manifest& manifest);

}  // namespace dujiang::data
