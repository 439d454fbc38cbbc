#pragma once
// Transport `mpi`: OpenMPI between processes. One communication thread per process makes every MPI call and runs the
// operations of all communicators in the order they were requested, while the caller computes.

#include <cstdint>
#include <memory>

#include "comm/communicator.h"

namespace dujiang::comm {

/// Initialises MPI and returns the communicator over all its processes. MPI is finalised with the last communicator
/// split from it. Once in a process.
std::unique_ptr<Communicator> make_mpi_communicator();

/// The largest message between two ranks of a group of this size; larger operations go in rounds.
std::int64_t mpi_chunk_bytes(int ranks);

}  // namespace dujiang::comm
