#pragma once
// The documents that stay, as token shards.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/corpus/pipeline/corpus_build.h"
#include "data/corpus/pipeline/order0.h"
#include "data/shard/manifest.h"
#include "data/tokenizer/tokenizer.h"

namespace dujiang::data {

struct SplitCounts {
  std::int64_t documents = 0, bytes = 0, tokens = 0;
  SplitCounts& operator+=(const SplitCounts& other);
  bool operator==(const SplitCounts&) const = default;
};

/// Of a growth: what was added, but for order0 and manifest.
struct ShardReport {
  ChoiceReport choice;
  std::vector<SplitCounts> train, held_out;  // by source
  Order0 order0;                             // of all text
  Manifest manifest;                         // of all shards

  SplitCounts total(const std::vector<SplitCounts>& split) const;
};

struct ShardOptions {
  std::int64_t shard_tokens = std::int64_t{64} << 20;
  bool keep_text = false;  // the training text as FOLDER/train.txt, beside held_out.txt
  /// What is to be written as FOLDER/build.json, if anything.
  std::function<std::string(const ShardReport&)> account{};
};

/// After build.choose(): encodes, and writes shards of the splits `train` and `valid`, each document in the order of
/// the input and ended by the tokenizer's end token; then held_out.txt, train.txt where it is wanted (documents with a
/// blank line between them), rejects.jsonl.zst, build.json, the list of files, order0.json (counts of characters), and
/// last of all the manifest. A growth writes shards behind those that are there and makes all other files anew, those
/// of the dataset with more behind them, in FOLDER/work/next; once they are whole they are moved, the manifest last.
/// All processes call it; rank 0's report is whole. UserError: nothing is left to train on (the message names the rules
/// that took most).
ShardReport write_dataset(const CorpusBuild& build, const Tokenizer& tokenizer, const DatasetInfo& info,
                          const ShardOptions& options);

}  // namespace dujiang::data
