#include "comm/rendezvous/bootstrap_guard.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>

namespace dujiang::comm {

using namespace std::chrono_literals;

BootstrapGuard::BootstrapGuard(const Launch& launch, std::chrono::milliseconds timeout)
    : thread_([this, launch, timeout] { run(launch, timeout); }) {}

BootstrapGuard::~BootstrapGuard() {
  {
    const std::lock_guard lock(mutex_);
    done_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void BootstrapGuard::run(const Launch& launch, std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  if (changed_.wait_for(lock, timeout, [this] { return done_; })) return;
  if (launch.rank > 0) {
    // The lowest rank that waits prints for all; the launcher ends the others when it has ended.
    std::signal(SIGTERM, SIG_DFL);
    if (changed_.wait_for(lock, 1500ms + std::min(launch.rank - 1, 6) * 500ms, [this] { return done_; })) return;
  }
  std::fflush(stdout);
  fmt::print(stderr,
             "dujiang: rank {} of {}: MPI, started by {}, did not bring the ranks together within {} s "
             "(comm.bootstrap_timeout): a rank never called MPI_Init, as it hangs before or runs another program, or "
             "the hosts can't reach one another\n",
             launch.rank, launch.size, launch.launcher, std::chrono::duration<double>(timeout).count());
  std::fflush(stderr);
  _exit(2);
}

}  // namespace dujiang::comm
