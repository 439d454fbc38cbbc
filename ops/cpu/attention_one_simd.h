#pragma once
// Attention of a single query: what generating a token asks of each key head.

#include "ops/cpu/attention_simd.h"

namespace dujiang::ops::cpu {

/// From the scores q·k, [group][stride] floats, stride a multiple of 16, not scaled yet, to o and lse of the head's one
/// query. The scores are overwritten, as far as the stride reaches. By dtype: f32, bf16, f16.
struct OneQueryTable {
  void (*of[3])(const HeadGroup& head, float* scores, std::int64_t stride);
};

DUJIANG_SIMD_TABLE(OneQueryTable, one_query_table)

}  // namespace dujiang::ops::cpu
