#include "data/corpus/dedup/dedup.h"

#include <iterator>

namespace dujiang::data {

std::vector<Phase> document_phases(const DedupWork& work, const DedupConfig& config) {
  std::vector<Phase> phases;
  const auto add = [&](std::vector<Phase> more) { std::move(more.begin(), more.end(), std::back_inserter(phases)); };
  if (config.exact) add(exact_phases(work, config.clusters));
  if (config.near) add(near_phases(work, config.near_config, config.exact));
  add(cluster_phases(work, config.clusters, config.exact, config.near));
  return phases;
}

void deduplicate(const DedupWork& work, const DedupConfig& config, const Runner& runner) {
  run_phases(document_phases(work, config), runner);
}

}  // namespace dujiang::data
