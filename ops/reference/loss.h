#pragma once
// Plain loops with double accumulation: the oracle of the loss kernels. Contracts: ops/loss.h.

#include "ops/loss.h"

namespace dujiang::ops::reference {

void softmax_cross_entropy(const View& logits, const View& labels, const View& weight, std::int64_t valid,
                           float grad_scale, bool gradient, const View& loss);
void softmax_statistics(const View& logits, const View& labels, std::int64_t first, std::int64_t valid,
                        const View& statistics);
void combine_softmax_statistics(const View& slices, const View& labels, const View& weight, const View& total,
                                const View& loss);
void softmax_gradient(const View& logits, const View& labels, const View& weight, std::int64_t first,
                      std::int64_t valid, float grad_scale, const View& total);

}  // namespace dujiang::ops::reference
