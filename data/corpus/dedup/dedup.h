#pragma once
// Deduplication of whole documents from end to end.
//
// The order of a build: line_phases() over the filtered pieces (lines.h); the documents without their repeated lines
// into new pieces; document_phases() over those; then read_members() for each piece (clusters.h). No result depends on
// the number of partitions, ranks or threads, nor, as far as documents go, on where pieces are cut.

#include <vector>

#include "data/corpus/dedup/clusters.h"
#include "data/corpus/dedup/exact.h"
#include "data/corpus/dedup/lines.h"
#include "data/corpus/dedup/near.h"

namespace dujiang::data {

struct DedupConfig {
  bool exact = true;
  bool near = true;
  NearConfig near_config;
  ClusterConfig clusters;
};

/// Exact, near, clusters, in this order.
std::vector<Phase> document_phases(const DedupWork& work, const DedupConfig& config);

/// All of document_phases(). A task holds about three times work.sort_bytes, but for the clusters' (clusters.h).
void deduplicate(const DedupWork& work, const DedupConfig& config, const Runner& runner);

}  // namespace dujiang::data
