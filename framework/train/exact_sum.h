#pragma once
// Sums of squares whose bits don't depend on the order or grouping of the terms.

#include <span>

#include "comm/communicator.h"
#include "framework/tensor/tensor.h"

namespace dujiang::train {

/// The sum of the squares of all elements of `parts` (f32, contiguous) on all ranks of all `communicators` together.
/// Squares become integers, in units that follow from the largest element of all: so the sum is the same for every
/// distribution of the elements over ranks, threads and parts. Its relative error is at most 2^-50 times the number of
/// elements. Infinite or NaN where an element is not finite. Collective.
double exact_sum_of_squares(std::span<const Tensor> parts, std::span<comm::Communicator* const> communicators);

}  // namespace dujiang::train
