#pragma once
// From a launched process to a communicator over all ranks, and from a failure on one rank to the end of all.

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "comm/communicator.h"
#include "comm/rendezvous/launch_environment.h"
#include "comm/watch/watchdog.h"

namespace dujiang::comm {

struct Options {
  /// auto, self, mpi, nccl, hccl. auto: by the device when a launcher started several ranks, else self.
  std::string transport = "auto";
  DeviceType device = DeviceType::cpu;
  std::chrono::milliseconds timeout{120'000};           ///< of one operation; 0: never
  std::chrono::milliseconds bootstrap_timeout{60'000};  ///< for all ranks to find one another
  AgreementCheck check = AgreementCheck::first;
};

/// The communicator over all ranks of the job, guarded by a watchdog. Throws UserError, within bootstrap_timeout, that
/// says what was tried and where: for an unknown transport, one that this launch or machine can't have, a wrong world
/// size, duplicate ranks, ranks that never came.
std::unique_ptr<Communicator> make_communicator(const Options& options = {});

/// Runs a program's body and returns its exit status. An exception that leaves the body is printed once to stderr and
/// ends every rank of the job with its status: Error::exit_status(), else 1. Communicators must be owned inside the
/// body, so that the exception passes them. When several ranks fail for the same reason (a bad config), the lowest
/// prints and ends the others before they do.
int run_job(const std::function<int()>& body);

}  // namespace dujiang::comm
