#pragma once
// Matrix product.

#include "framework/base/view.h"
#include "ops/kernel.h"

namespace dujiang::ops {

/// c = a·b, or c += a·b where `accumulate`.
/// a [..., m, k], b [..., k, n], c [..., m, n]; the leading axes are equal (no broadcasting: use a stride of 0).
/// a and b have any strides: as long as one of their last two axes has a unit stride (a transpose is a view) nothing is
/// copied; c has unit stride on its last axis. a and b share a dtype of f32, bf16 or f16; c has that dtype or f32.
/// Products accumulate in f32 and are rounded once. k = 0 gives zeros. c must not overlap a or b.
extern Kernel<void(const View& a, const View& b, const View& c, bool accumulate)> matmul;

}  // namespace dujiang::ops
