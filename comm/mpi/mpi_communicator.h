#pragma once
// Transport `mpi`: OpenMPI between processes. Ranks of one host exchange through shared memory, small operations on the
// caller's own thread; between hosts messages travel on MPI's thread (MpiSession), which advances those of all
// communicators while the callers compute.
//
// Reductions over several hosts that hold the same power of two of consecutive ranks are hierarchical: each host
// reduces its part of the tree in shared memory, and only partial results cross the network. Others are flat.

#include <cstdint>
#include <memory>
#include <vector>

#include "comm/communicator.h"
#include "comm/mpi/mpi_session.h"

namespace dujiang::comm {

/// The communicator over all ranks of the session. `watchdog` may be null. `hosts` has a number for every rank's host:
/// empty for the real ones; a test may say that ranks of one host are on several.
std::unique_ptr<Communicator> make_mpi_communicator(std::shared_ptr<MpiSession> session,
                                                    std::shared_ptr<Watchdog> watchdog, std::vector<int> hosts = {});

/// What a communicator of transport mpi runs on; null for others. Lives as long as that communicator.
MpiSession* mpi_session_of(Communicator& communicator);

/// The largest message between two ranks of a group of this size; larger operations go in rounds.
std::int64_t mpi_chunk_bytes(int ranks);

}  // namespace dujiang::comm
