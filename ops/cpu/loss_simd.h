#pragma once
// The inner loops of loss.cpp.

#include <cstdint>

#include "ops/cpu/isa.h"

namespace dujiang::ops::cpu {

/// One row of logits in memory: `count` elements, those from `valid` on padding.
struct LossRow {
  void* logits;
  std::int64_t count, valid, label;
  float factor;    ///< of the gradient
  float* scratch;  ///< loss_scratch() floats where the gradient is asked for, else null
};

/// For a row's powers of two and what they are relative to.
constexpr std::int64_t loss_scratch(std::int64_t count) {
  return count + count / 64 + 32;
}

/// By dtype (f32, bf16, f16): returns log-sum-exp less the label's logit, and where asked turns logits into gradients.
struct LossTable {
  float (*row[3])(const LossRow& row);
  /// Where the row is a slice, whose label may lie outside of [0, valid): its share of the softmax.
  struct Statistics {
    float most, total, at_label;
  };
  Statistics (*statistics[3])(const LossRow& row);
  void (*gradient[3])(const LossRow& row, const Statistics& all);
};

DUJIANG_SIMD_TABLE(LossTable, loss_table)

}  // namespace dujiang::ops::cpu
