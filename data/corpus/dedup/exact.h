#pragma once
// Documents with equal texts (by their 128-bit hashes).

#include <cstdint>
#include <string_view>
#include <vector>

#include "data/corpus/dedup/work.h"

namespace dujiang::data {

/// Half of hash128, which stands for a text where documents are grouped.
std::uint64_t text_hash(std::string_view text);

/// Map over the pieces, reduce over the partitions: an edge from the first document of each text to each of the others.
std::vector<Phase> exact_phases(const DedupWork& work);

/// After the phases: the documents of a piece that an earlier one equals, sorted.
std::vector<std::uint32_t> read_exact_repeats(const DedupWork& work, std::uint64_t piece);

}  // namespace dujiang::data
