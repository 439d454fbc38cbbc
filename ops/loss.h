#pragma once
// Cross-entropy of logits.

#include "framework/base/view.h"
#include "ops/kernel.h"

namespace dujiang::ops {

/// loss[i] = weight[i] * (log-sum-exp(logits[i]) - logits[i, label[i]]); 0 where label[i] < 0.
/// Where `gradient`, logits[i] is overwritten with grad_scale * weight[i] * (softmax(logits[i]) - onehot(label[i]))
/// (zeros where label[i] < 0), rounded once to the logits' dtype.
/// logits [n, v] of f32, bf16 or f16, unit stride on the last axis; columns from `valid` on are padding: they take no
/// part and get gradient 0. labels i32 [n], each below `valid`; weight f32 [n]; loss f32 [n].
extern Kernel<void(const View& logits, const View& labels, const View& weight, std::int64_t valid, float grad_scale,
                   bool gradient, const View& loss)>
    softmax_cross_entropy;

}  // namespace dujiang::ops
