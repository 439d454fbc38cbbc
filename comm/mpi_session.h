#pragma once
// MPI in this process: initialised once, used by one thread alone, finalised or left to MPI_Abort.

#include <atomic>

#include "comm/worker.h"

namespace dujiang::comm {

class MpiSession {
 public:
  /// Starts the communication thread, which initialises MPI. Throws Error where that was done before: MPI can't start
  /// twice in a process.
  MpiSession();
  /// Finalises MPI, which waits for the other ranks; not after cancel() or while an exception
  /// unwinds, as they may never come.
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  /// The thread that makes every MPI call.
  Worker& worker() { return worker_; }

  /// Operations under way and to come fail. For a job that is about to end.
  void cancel() { cancelled_ = true; }
  bool cancelled() const { return cancelled_; }

 private:
  std::atomic<bool> cancelled_{false};
  Worker worker_;
};

/// Whether MPI is initialised and not yet finalised in this process.
bool mpi_running();

/// Ends every rank of the job with this status when MPI is running in this process; else just returns.
void abort_mpi_job(int status);

}  // namespace dujiang::comm
