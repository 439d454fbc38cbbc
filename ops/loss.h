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

// The same over a vocabulary in slices: statistics of each slice, combined, and the gradient from them. A slice is
// columns [first, first + v) of all, of which those from `valid` on, counted over all, are padding: a slice may be
// nothing else. Logits are as above; labels count over all columns.

/// Of each row, statistics [3, n] f32 contiguous: the largest x = logit * log2 e (-inf where all is padding); the sum
/// of 2^(x - largest); x at the label, 0 where the slice hasn't it. (-inf, 0, 0) where label[i] < 0.
extern Kernel<void(const View& logits, const View& labels, std::int64_t first, std::int64_t valid,
                   const View& statistics)>
    softmax_statistics;

/// Combines slices [slices, 3, n] to total [3, n], in a balanced binary tree over slices, and gives loss [n] as above.
/// All f32 and contiguous.
extern Kernel<void(const View& slices, const View& labels, const View& weight, const View& total, const View& loss)>
    combine_softmax_statistics;

/// Overwrites a slice's logits with their gradient as above; `total` as combined.
extern Kernel<void(const View& logits, const View& labels, const View& weight, std::int64_t first, std::int64_t valid,
                   float grad_scale, const View& total)>
    softmax_gradient;

}  // namespace dujiang::ops
