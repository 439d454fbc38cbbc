#pragma once
// Documents with equal texts (by their 128-bit hashes).

#include <cstdint>
#include <string_view>
#include <vector>

#include "data/corpus/dedup/keep.h"
#include "data/corpus/dedup/work.h"

namespace dujiang::data {

/// Half of hash128, which stands for a text where documents are grouped.
std::uint64_t text_hash(std::string_view text);

/// A document that equals others. All but the kept one of them take no part in the phases that follow.
struct Repeat {
  DocumentId document, kept;
  std::uint64_t hash;  // text_hash() of both
  auto operator<=>(const Repeat&) const = default;
};

/// Map over the pieces, reduce over the partitions.
std::vector<Phase> exact_phases(const DedupWork& work, const ClusterConfig& config);

/// After the phases: the documents of a piece that equal others, sorted; the kept ones (document = kept) too.
std::vector<Repeat> read_repeats(const DedupWork& work, std::uint64_t piece);

}  // namespace dujiang::data
