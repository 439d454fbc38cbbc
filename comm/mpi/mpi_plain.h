#pragma once
// MPI's own collective calls behind the same requests, for comparison in benchmarks.

#include "comm/communicator.h"
#include "comm/mpi/mpi_session.h"

namespace dujiang::comm {

/// Whether run_plain_mpi takes it: every collective of f32 and bf16 but batch_send_recv. bf16 is reduced by an
/// operation of the user's, as MPI has no such type.
bool plain_mpi_supports(Op op, Dtype dtype);

/// Runs MPI's call for the request `times` times over all ranks of the job and returns the seconds this rank spent.
/// Requests in place use MPI_IN_PLACE.
double run_plain_mpi(MpiSession& session, const Request& request, int times);

}  // namespace dujiang::comm
