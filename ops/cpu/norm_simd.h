#pragma once
// The inner loops of norm.cpp: runs of rows. Strides are in elements; the last axis has unit stride. Tables are
// indexed by dtype (f32, bf16, f16).

#include <cstddef>
#include <cstdint>

#include "ops/cpu/isa.h"

namespace dujiang::ops::cpu {

struct NormRows {
  const void* x;
  const void* residual;  ///< null: no sum, `sum` is not written
  const void* weight;
  void* sum;
  void* y;
  float* rstd;
  std::ptrdiff_t x_stride, residual_stride, sum_stride, y_stride;
  std::ptrdiff_t rows, d;
  float eps;
};

struct NormBackwardRows {
  const void* dy;
  const void* x;
  const void* weight;
  const float* rstd;
  const void* addend;  ///< null: none
  void* dx;
  float* dweight;  ///< [d], overwritten; null: not wanted
  std::ptrdiff_t dy_stride, x_stride, addend_stride, dx_stride;
  std::ptrdiff_t rows, d;
};

struct RopeRows {
  const void* x;       ///< backward without a norm: null
  const void* weight;  ///< null: no norm
  const float* table;
  const std::int32_t* positions;
  const void* dy;  ///< backward
  void* y;         ///< backward: dx
  float* rstd;     ///< [rows, heads]
  float* dweight;  ///< backward: [d], overwritten; null: not wanted
  std::ptrdiff_t x_row, x_head, y_row, y_head, dy_row, dy_head, table_row, position_step;
  std::ptrdiff_t rows, heads, d;
  float eps;
};

struct NormTable {
  void (*forward[3])(const NormRows&);
  void (*backward[3])(const NormBackwardRows&);
  void (*rope[3])(const RopeRows&);
  void (*rope_backward[3])(const RopeRows&);
};

DUJIANG_SIMD_TABLE(NormTable, norm_table)

}  // namespace dujiang::ops::cpu
