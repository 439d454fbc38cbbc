#pragma once
// The inner loops of gemv.cpp. Strides are in elements; the last axes have unit stride.

#include <cstddef>
#include <cstdint>

#include "ops/cpu/isa.h"

namespace dujiang::ops::cpu {

/// y[m, n] (+)= x[m, k] · weight[n, k]ᵀ. x has the weight's dtype or, where the table says how to widen it, f32.
struct GemvRows {
  const void* x;
  const void* weight;
  void* y;
  std::ptrdiff_t x_stride, weight_stride, y_stride;
  std::ptrdiff_t m, n, k;
  bool accumulate;
};

/// By dtype of the weight (f32, bf16, f16); `wide` writes f32.
struct GemvTable {
  void (*same[3])(const GemvRows&);
  void (*wide[3])(const GemvRows&);
  void (*widen[3])(const void* x, float* out, std::ptrdiff_t n);  ///< n elements of x; null where x is taken as it is
};

DUJIANG_SIMD_TABLE(GemvTable, gemv_table)

}  // namespace dujiang::ops::cpu
