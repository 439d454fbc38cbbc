#pragma once
// Collectives as differentiable functions: what each does forward, its gradient undoes the other way round. Rows are
// axis 0, equally many on every rank, in rank order (Shoeybi et al. 2019, Korthikanti et al. 2022).

#include "comm/communicator.h"
#include "framework/tensor/tensor.h"

namespace dujiang::parallel {

/// x itself, the same on all ranks, each of which uses it in another way; the gradient is the sum over ranks.
Tensor copy_to_ranks(const Tensor& x, comm::Communicator& ranks);
/// The sum over ranks; the gradient goes to each as it is.
Tensor sum_over_ranks(const Tensor& x, comm::Communicator& ranks);
/// [n, ...] -> all ranks' rows [size * n, ...], which each rank uses in another way; the gradient is summed over ranks
/// and cut into rows. Who saves the result gathers it again in backward: only this rank's rows are kept.
Tensor gather_rows(const Tensor& x, comm::Communicator& ranks);
/// [size * n, ...] -> this rank's rows of the sum [n, ...]; the gradient is gathered.
Tensor sum_and_cut_rows(const Tensor& x, comm::Communicator& ranks);

/// All ranks' rows, outside of the graph.
Tensor all_gather_rows(const Tensor& x, comm::Communicator& ranks);
/// Adds up `x` over ranks, in place.
void all_reduce(const Tensor& x, comm::Communicator& ranks, comm::Reduce reduce = comm::Reduce::sum);

}  // namespace dujiang::parallel
