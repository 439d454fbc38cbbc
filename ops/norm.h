#pragma once
// RMSNorm (Zhang & Sennrich 2019), alone, fused with the residual sum, and fused with rotary embedding per head.
// Rows may be strided; the last axis has unit stride. Activations share one dtype (f32, bf16 or f16), as does the
// weight; statistics and gradients of weights are f32. All arithmetic is f32, results are rounded once. Weights, rstd
// and dweight are contiguous. A weight's gradient is summed over rows in an order that depends on the shape alone.

#include "framework/base/view.h"
#include "ops/kernel.h"

namespace dujiang::ops {

/// y = x * rstd * weight with rstd = 1 / sqrt(mean(x^2) + eps).
/// x, y [n, d]; weight [d]; rstd f32 [n]. y may be x.
extern Kernel<void(const View& x, const View& weight, float eps, const View& y, const View& rstd)> rms_norm;

/// sum = x + residual (rounded to its dtype), y = rms_norm(sum).
/// x, residual, sum, y [n, d]; rstd f32 [n]. sum may be x or residual.
extern Kernel<void(const View& x, const View& residual, const View& weight, float eps, const View& sum, const View& y,
                   const View& rstd)>
    add_rms_norm;

/// dx = addend + d(rms_norm)/dx · dy; dweight f32 [d] receives (or, where `accumulate`, adds) the weight's gradient.
/// x is the forward's input (add_rms_norm's sum). addend [n, d] may be undefined, and may be dx; dx may be dy.
/// dweight may be undefined where nobody wants it.
extern Kernel<void(const View& dy, const View& x, const View& weight, const View& rstd, const View& addend,
                   const View& dx, const View& dweight, bool accumulate)>
    rms_norm_backward;

/// Rotary embedding (Su et al. 2021, the half-split form of GPT-NeoX and Hugging Face), after an optional RMSNorm
/// over each head: z = rms_norm(x) or x; y[:h] = z[:h] cos - z[h:] sin; y[h:] = z[h:] cos + z[:h] sin; h = d / 2.
/// x, y [n, heads, d], d even; weight [d] or undefined (no norm; rstd is then ignored); table f32 [positions, d]
/// holds cos in its first half and sin in its second; positions i32 [n], each below the table's length;
/// rstd f32 [n, heads]. y may be x.
extern Kernel<void(const View& x, const View& weight, float eps, const View& table, const View& positions,
                   const View& y, const View& rstd)>
    norm_rope;

/// The gradient of norm_rope: dx [n, heads, d] (may be dy), dweight f32 [d] as in rms_norm_backward (undefined where
/// there is no weight). x is the forward's input; not read where there is no weight.
extern Kernel<void(const View& dy, const View& x, const View& weight, const View& rstd, const View& table,
                   const View& positions, const View& dx, const View& dweight, bool accumulate)>
    norm_rope_backward;

}  // namespace dujiang::ops
