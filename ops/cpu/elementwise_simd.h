#pragma once
// The inner loops of elementwise.cpp.

#include <cstddef>

#include "ops/cpu/isa.h"

namespace dujiang::ops::cpu {

/// One strided run: n elements of each operand (inputs first, then outputs). Steps are in elements.
struct Run {
  void* data[5];
  std::ptrdiff_t step[5];
  std::ptrdiff_t n;
  float value;  ///< what fill and scale take
};
using RunKernel = void (*)(const Run&);

/// Indexed by dtype (f32, bf16, f16); `out` is 0 where the output has the inputs' dtype and 1 where it is f32.
struct ElementwiseTable {
  RunKernel convert[3][3];  ///< [input][output]
  RunKernel fill[3];
  RunKernel add[3][2];
  RunKernel multiply[3][2];
  RunKernel scale[3][2];
  RunKernel swiglu[3];           ///< gate, up, y
  RunKernel swiglu_backward[3];  ///< dy, gate, up, dgate, dup
  /// y[i] += x[i] with y in f32.
  void (*accumulate[3])(const void* x, float* y, std::ptrdiff_t n);
  double (*sum[3])(const void* x, std::ptrdiff_t n);
  double (*sum_of_squares[3])(const void* x, std::ptrdiff_t n);
};

DUJIANG_SIMD_TABLE(ElementwiseTable, elementwise_table)

}  // namespace dujiang::ops::cpu
