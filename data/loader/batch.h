#pragma once
// A batch in host memory: `sequences` rows of `length` tokens, row-major.

#include <cstdint>
#include <vector>

#include "data/shard/shard_format.h"  // no_label

namespace dujiang::data {

struct Batch {
  std::int64_t sequences = 0;
  std::int64_t length = 0;
  std::vector<std::int32_t> tokens;     ///< [sequences * length]; padding is token 0
  std::vector<std::int32_t> labels;     ///< the next token, or what the shard says; or no_label
  std::vector<float> loss_weight;       ///< of the label: 1, or what the shard says; 0 without label
  std::vector<std::int32_t> positions;  ///< 0, 1, ... from each segment's start
  /// Cumulative offsets over the flattened tokens, from 0 to sequences * length: attention runs inside a segment.
  /// Every sequence starts one; with Packing::documents every document does; padding is one of its own.
  std::vector<std::int32_t> segments;
  double weight_sum = 0;  ///< of loss_weight, here only: summed over ranks it divides the global loss

  /// Sequences [first, first + count) as a batch of their own. Throws Error outside [0, sequences].
  Batch slice(std::int64_t first, std::int64_t count) const;
};

}  // namespace dujiang::data
