#pragma once
// What this machine gives for matrix products: the limit that training speed is stated against.

#include "framework/base/dtype.h"

namespace dujiang::train {

/// The best rate in GFLOP/s of square products of 512, 1,024 and 2,048 at the current thread count; `seconds` is spent
/// on each size.
double gemm_ceiling_gflops(Dtype dtype, double seconds);

}  // namespace dujiang::train
