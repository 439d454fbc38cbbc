#pragma once
// The inner loop of optim.cpp.

#include <cstddef>

#include "ops/cpu/isa.h"

namespace dujiang::ops::cpu {

struct AdamwRange {
  float *master, *m, *v;
  const float* grad;
  void* param;  ///< null where the kernel writes none
  std::ptrdiff_t n;
  float decay;  ///< 1 - lr * weight_decay
  float beta1, one_less_beta1;
  float beta2, one_less_beta2;
  float step_size;            ///< lr / bias_correction1
  float inverse_correction2;  ///< 1 / bias_correction2
  float eps, grad_scale;
};

/// Indexed by the dtype of param: f32 stands for none.
struct AdamwTable {
  void (*update[3])(const AdamwRange&);
};

DUJIANG_SIMD_TABLE(AdamwTable, adamw_table)

}  // namespace dujiang::ops::cpu
