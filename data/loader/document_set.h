#pragma once
// Some documents of a dataset, numbered from 0: all, or those of one source; of all its shards, or of the first ones.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/shard/dataset.h"

namespace dujiang::data {

class DocumentSet {
 public:
  /// Documents of the split's first `shards` shards; those of `source` only, unless it is empty. UserError when they
  /// hold no tokens, naming the sources that there are.
  DocumentSet(std::shared_ptr<const Dataset> dataset, const std::string& source, std::int64_t shards);

  const Dataset& dataset() const { return *dataset_; }
  std::int64_t documents() const { return runs_.back().first; }
  std::int64_t tokens() const { return tokens_; }
  /// The number in the dataset of the set's document `i`.
  std::int64_t number(std::int64_t i) const {
    if (runs_.size() == 2) return runs_[0].number + i;
    return number_in_runs(i);
  }
  Dataset::Place locate(std::int64_t i) const { return dataset_->locate(number(i)); }
  /// The inverse of number(); -1 for a document that is not in the set.
  std::int64_t find(std::int64_t number) const;

 private:
  /// Documents that follow one another in the dataset, too. Sources lie together in most datasets, so these are few.
  struct Run {
    std::int64_t first, number;  // here, and in the dataset
  };
  std::int64_t number_in_runs(std::int64_t i) const;

  std::shared_ptr<const Dataset> dataset_;
  std::vector<Run> runs_;  // and the end of all
  std::int64_t tokens_ = 0;
};

}  // namespace dujiang::data
