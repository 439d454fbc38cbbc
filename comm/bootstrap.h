#pragma once
// From a launched process to a communicator over all ranks, and from a failure on one rank to the end of all.

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "comm/communicator.h"

namespace dujiang::comm {

/// What the launcher says of this process, read from the environment without a call to MPI.
struct Launch {
  std::string launcher;  ///< "mpirun", "srun" (with PMIx), or empty: started alone
  int rank = 0, size = 1;
};
/// Throws UserError when srun started several tasks without PMIx: they would each believe to be alone.
Launch detect_launch();

/// The communicator over all ranks of the job. `transport` is
///   self   one rank; MPI is not touched
///   mpi    OpenMPI, initialised here and finalised with the last communicator; once in a process
///   auto   mpi when a launcher started this process, else self
/// Throws UserError for any other name, and for `self` under a launcher with several ranks.
std::unique_ptr<Communicator> make_communicator(std::string_view transport = "auto");

/// Runs a program's body and returns its exit status. An exception that leaves the body is printed once to stderr and
/// ends every rank of the job with its status: Error::exit_status(), else 1. Communicators must be owned inside the
/// body, so that the exception passes them. When several ranks fail for the same reason (a bad config), the lowest
/// prints and ends the others before they do.
int run_job(const std::function<int()>& body);

}  // namespace dujiang::comm
