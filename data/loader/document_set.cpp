#include "data/loader/document_set.h"

#include <algorithm>

#include "framework/base/check.h"

namespace dujiang::data {

DocumentSet::DocumentSet(std::shared_ptr<const Dataset> dataset, const std::string& source, std::int64_t shards)
    : dataset_(std::move(dataset)) {
  std::int64_t number = 0, count = 0;
  for (std::int64_t s = 0; s < shards; ++s) {
    const ShardReader& shard = *dataset_->shards()[static_cast<std::size_t>(s)];
    if (source.empty()) {
      if (runs_.empty()) runs_.push_back({0, 0});
      count += shard.documents();
      tokens_ += shard.tokens();
    } else {
      const auto& names = shard.info().sources;
      const auto row = static_cast<std::uint32_t>(std::ranges::find(names, source, &Source::name) - names.begin());
      const auto rows = shard.doc_sources();
      const auto offsets = shard.doc_offsets();
      for (std::size_t d = 0; row < names.size() && d < rows.size(); ++d) {
        if (rows[d] != row) continue;
        const std::int64_t here = number + static_cast<std::int64_t>(d);
        if (runs_.empty() || runs_.back().number + (count - runs_.back().first) != here) runs_.push_back({count, here});
        ++count;
        tokens_ += static_cast<std::int64_t>(offsets[d + 1] - offsets[d]);
      }
    }
    number += shard.documents();
  }
  if (tokens_ <= 0) {
    std::vector<std::string> names;
    for (const auto& known : dataset_->info().sources) names.push_back(known.name);
    fail_user("{}: split '{}' has no text of source '{}', expected one of: {}", dataset_->folder().string(),
              dataset_->split(), source, fmt::join(names, ", "));
  }
  runs_.push_back({count, number});
}

std::int64_t DocumentSet::number_in_runs(std::int64_t i) const {
  const auto run = std::ranges::upper_bound(runs_, i, {}, &Run::first) - 1;
  return run->number + (i - run->first);
}

std::int64_t DocumentSet::find(std::int64_t number) const {
  const auto next = std::ranges::upper_bound(runs_, number, {}, &Run::number);
  if (next == runs_.begin() || next == runs_.end()) return -1;
  const std::int64_t i = (next - 1)->first + (number - (next - 1)->number);
  return i < next->first ? i : -1;
}

}  // namespace dujiang::data
