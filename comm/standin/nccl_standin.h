#pragma once
// What the files of NCCL's stand-in share: see nccl_standin.cpp.

#include <nccl.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>

#include "comm/standin/cuda_standin.h"
#include "comm/standin/rank_group.h"

namespace dujiang::standin {

/// Notes what ncclGetLastError will say, and returns the result.
ncclResult_t refuse(ncclResult_t result, const std::string& why);

/// What a function is to return at once, by a fault or success; `fault` gets what is to happen later.
ncclResult_t at_call(const char* function, std::optional<CudaFault>& fault);

/// What outlives the communicator while its tasks run on streams.
struct NcclCore {
  int rank = 0, size = 1, device = 0;
  std::atomic<int> state{ncclInProgress};
  std::atomic<int> failure{ncclSuccess};  ///< of an operation that runs
  std::atomic<bool> aborted{false};
  std::atomic<int> running{0};  ///< operations queued or running
  std::unique_ptr<RankGroup> group;

  ncclResult_t now() const {
    const int known = state;
    return static_cast<ncclResult_t>(known == ncclSuccess ? failure.load() : known);
  }
  bool interrupted() const { return aborted.load(); }
  void wait_for_abort() const {
    while (!aborted) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  void wait_for_operations() const {
    while (running > 0) std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
};

}  // namespace dujiang::standin

struct ncclComm {
  using Core = dujiang::standin::NcclCore;
  using Fault = dujiang::standin::CudaFault;

  std::shared_ptr<Core> core = std::make_shared<Core>();
  std::thread job;  ///< what goes on in the background
  bool finalized = false;
  int splits = 0;
  std::set<void*> registered;

  ~ncclComm() { join(); }
  void join() {
    if (job.joinable()) job.join();
  }
  /// Calls need a communicator whose last call has been seen to be complete.
  ncclResult_t ready() const;
  /// Goes on with `work` in the background, unless it is to hang or to report an error.
  template <class Work>
  ncclResult_t begin(std::optional<Fault> fault, Work work) {
    join();
    core->state = ncclInProgress;
    job = std::thread([core = core, fault, work] {
      if (fault && fault->kind == Fault::Kind::hang) return core->wait_for_abort();
      try {
        if (fault) {
          core->state = dujiang::standin::refuse(static_cast<ncclResult_t>(fault->code), "told to fail later");
        } else {
          work();
        }
      } catch (const std::exception& e) {
        core->state = dujiang::standin::refuse(ncclRemoteError, e.what());
      }
    });
    return ncclInProgress;
  }
};
