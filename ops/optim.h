#pragma once
// Optimizer updates over flat memory, and f32 weights in two halves.

#include "framework/base/view.h"
#include "ops/kernel.h"

namespace dujiang::ops {

struct AdamwStep {
  float lr, beta1, beta2, eps, weight_decay;
  float bias_correction1;  ///< 1 - beta1^t
  float bias_correction2;  ///< 1 - beta2^t
  float grad_scale;        ///< gradients are multiplied by it first: clipping and un-scaling
};

/// AdamW (Loshchilov & Hutter 2019), in the order of PyTorch's: p *= 1 - lr * wd; m, v; p -= lr / bc1 * m /
/// (sqrt(v / bc2) + eps). All contiguous [n]; grad is f32, m and v are both f32, or both bf16: all arithmetic is that
/// of f32, and the step takes the new moments before they are rounded, to nearest even. The weights p, f32, are
/// `master` where param is undefined; where param is f16 too, and it is the copy written on the way; where param is
/// bf16 the two are their halves (split_f32), master u16. The same bits on every instruction set and for every number
/// of threads.
extern Kernel<void(const View& master, const View& m, const View& v, const View& grad, const View& param,
                   const AdamwStep& step)>
    adamw;

/// f32 [n] as bf16 and u16 [n], contiguous: `high` is x rounded to nearest, ties away from zero, so that `low`, the
/// lower half of x's bits, tells how it was rounded. NaN becomes quiet,
/// with the upper half of its bits.
extern Kernel<void(const View& x, const View& high, const View& low)> split_f32;
/// What was split, to the bit.
extern Kernel<void(const View& high, const View& low, const View& x)> join_f32;

}  // namespace dujiang::ops
