#pragma once
// Optimizer updates over flat memory.

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
/// (sqrt(v / bc2) + eps). master, m, v, grad: contiguous f32 [n]; param: the copy in the compute dtype (bf16 or f16)
/// that is written on the way, or undefined. The same bits on every instruction set and for every number of threads.
extern Kernel<void(const View& master, const View& m, const View& v, const View& grad, const View& param,
                   const AdamwStep& step)>
    adamw;

}  // namespace dujiang::ops
