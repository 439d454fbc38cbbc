#pragma once
// Products of few rows with a matrix as a model keeps it: what generating text consists of.

#include "framework/base/view.h"
#include "ops/cpu/gemv_simd.h"

namespace dujiang::ops::cpu {

/// Whether a [m, k] · b [k, n] is such a product: at most 32 rows, and unit stride along k in both.
bool gemv_takes(const View& a, const View& b);
/// As ops::matmul, for c [m, n]. Each element's bits depend on k alone, not on m, n or the number of threads.
void gemv(const View& a, const View& b, const View& c, bool accumulate);

/// Makes x what the kernels of gemv_table() take: f32 in `memory`, of m * k floats, where they don't take `dtype`.
void widen_x(Dtype dtype, GemvRows& rows, float* memory);

}  // namespace dujiang::ops::cpu
