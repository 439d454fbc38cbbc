#pragma once
// The `nccl` transport: one rank is one process with one NVIDIA GPU.
//
// Beyond the contract of every transport:
// - Sums follow NCCL's order, not the tree: promises_tree_order() is false.
// - In one operation, either the buffers of all ranks come from allocate(), or none's do: NCCL may not mix registered
//   and ordinary memory.
// - Operations run on the CUDA stream they are given. The first one of a kind connects the ranks and returns only when
//   the others have called it too; later ones return when they are queued.

#include <memory>

#include "comm/communicator.h"
#include "comm/store/store.h"
#include "comm/watch/watchdog.h"

namespace dujiang::comm {

/// The communicator over all ranks of the job, which meet by watchdog->store(). `device` is the GPU this rank would use
/// where it sees those of the whole host, its number among the host's ranks; a rank that sees one GPU alone uses that.
/// Throws UserError, on every rank, when one has no GPU, two have the same, or their NCCLs differ.
std::unique_ptr<Communicator> make_nccl_communicator(std::shared_ptr<Watchdog> watchdog, int rank, int size, int device,
                                                     Deadline deadline);

}  // namespace dujiang::comm
