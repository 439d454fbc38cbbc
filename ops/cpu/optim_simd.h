#pragma once
// The inner loops of optim.cpp.

#include <cstddef>
#include <cstdint>

#include "ops/cpu/isa.h"

namespace dujiang::ops::cpu {

struct AdamwRange {
  void* master;  ///< f32, or u16 where param is bf16
  void *m, *v;   ///< f32, or bf16
  const float* grad;
  void* param;  ///< null where the weights are master alone
  std::ptrdiff_t n;
  float decay;  ///< 1 - lr * weight_decay
  float beta1, one_less_beta1;
  float beta2, one_less_beta2;
  float step_size;            ///< lr / bias_correction1
  float inverse_correction2;  ///< 1 / bias_correction2
  float eps, grad_scale;
};

struct OptimTable {
  using Adamw = void (*)(const AdamwRange&);
  Adamw adamw[2];         ///< no param; moments f32, bf16
  Adamw adamw_copied[2];  ///< param f16
  Adamw adamw_split[2];   ///< param bf16
  void (*split_f32)(const float* x, std::uint16_t* high, std::uint16_t* low, std::ptrdiff_t n);
  void (*join_f32)(const std::uint16_t* high, const std::uint16_t* low, float* x, std::ptrdiff_t n);
};

DUJIANG_SIMD_TABLE(OptimTable, optim_table)

}  // namespace dujiang::ops::cpu
