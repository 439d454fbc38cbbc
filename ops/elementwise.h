#pragma once
// Element by element ops and full reductions. Floating dtypes are f32, bf16 and f16, arithmetic is f32, results are
// rounded once, to nearest even, subnormals included: all but SwiGLU gives the same bits on every instruction set.
// Views of equal shape; any strides (inputs may have a stride of 0) unless said otherwise. Outputs may be inputs.

#include "framework/base/view.h"
#include "ops/kernel.h"

namespace dujiang::ops {

/// y = x, between any two of f32, bf16 and f16, or any equal dtypes.
extern Kernel<void(const View& x, const View& y)> copy;
/// y = value.
extern Kernel<void(const View& y, float value)> fill;
/// y = a + b; a and b share a dtype, y has it or f32.
extern Kernel<void(const View& a, const View& b, const View& y)> add;
/// y = a * b; likewise.
extern Kernel<void(const View& a, const View& b, const View& y)> multiply;
/// y = factor * x; likewise.
extern Kernel<void(const View& x, float factor, const View& y)> scale;

/// SwiGLU (Shazeer 2020): y = gate / (1 + exp(-gate)) * up. One dtype.
extern Kernel<void(const View& gate, const View& up, const View& y)> swiglu;
/// dgate and dup from dy; dgate may be gate, dup may be up.
extern Kernel<void(const View& dy, const View& gate, const View& up, const View& dgate, const View& dup)>
    swiglu_backward;

/// result f32 [1] = the sum of x's elements, in double, in an order that depends on the count alone. x contiguous.
extern Kernel<void(const View& x, const View& result)> sum;
/// result f64 [1] = the sum of the squares, likewise; infinite or NaN where x is not finite.
extern Kernel<void(const View& x, const View& result)> sum_of_squares;

}  // namespace dujiang::ops
