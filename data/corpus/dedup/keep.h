#pragma once
// Which of several documents stays.

#include <cstdint>
#include <vector>

#include "data/corpus/piece_file.h"

namespace dujiang::data {

/// Ties go to the first in the input.
enum class Keep : std::uint8_t { first, longest, priority, quality };

struct ClusterConfig {
  Keep keep = Keep::first;
  std::vector<double> priority;  // by source, the highest stays; for Keep::priority
};

/// What the document that stays has most of. Sources without priority and documents without quality come last.
double merit_of(const PieceWriter::Record& record, const ClusterConfig& config);

}  // namespace dujiang::data
