#pragma once
// Plain loops with double accumulation: the oracle of the loss kernels. Contracts: ops/loss.h.

#include "ops/loss.h"

namespace dujiang::ops::reference {

void softmax_cross_entropy(const View& logits, const View& labels, const View& weight, std::int64_t valid,
                           float grad_scale, bool gradient, const View& loss);

}  // namespace dujiang::ops::reference
