#pragma once
// MPI_Init waits without end for a rank that never calls it, and can't be interrupted. So a thread ends the process
// when that takes longer than the bootstrap may.

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "comm/rendezvous/launch_environment.h"

namespace dujiang::comm {

class BootstrapGuard {
 public:
  /// Ends the process with one line and status 2 unless it is destroyed within the timeout.
  BootstrapGuard(const Launch& launch, std::chrono::milliseconds timeout);
  ~BootstrapGuard();
  BootstrapGuard(const BootstrapGuard&) = delete;
  BootstrapGuard& operator=(const BootstrapGuard&) = delete;

 private:
  void run(const Launch& launch, std::chrono::milliseconds timeout);

  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  std::thread thread_;
};

}  // namespace dujiang::comm
