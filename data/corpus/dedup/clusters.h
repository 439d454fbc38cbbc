#pragma once
// Edges to clusters, and which document of each stays.

#include <cstdint>
#include <vector>

#include "data/corpus/dedup/keep.h"
#include "data/corpus/dedup/work.h"

namespace dujiang::data {

enum class Twin : std::uint32_t { none, exact, near };

/// A document that has twins.
struct Member {
  std::uint64_t cluster;  // the least text_hash() of the cluster's members
  DocumentId kept;        // the member that stays
  std::uint32_t index;    // in its piece
  float
      similarity;  // to the one that stays, where the two were compared, else the highest to any member; 1 if it stays
  Twin twin;       // none: it stays; exact: it goes and the text of the one that stays is the same; near: it goes
  std::uint32_t unused;
};

/// One task over the edges of near_phases(), if these ran, which holds 36 bytes for each document that has an
/// edge; then a task a piece that adds what exact_phases() found, if these ran.
std::vector<Phase> cluster_phases(const DedupWork& work, const ClusterConfig& config, bool exact, bool near);

/// After the phases: a piece's documents that have twins, sorted by index. Any other document stays, and its cluster is
/// its text_hash().
std::vector<Member> read_members(const DedupWork& work, std::uint64_t piece);

}  // namespace dujiang::data
