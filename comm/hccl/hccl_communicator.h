#pragma once
// Transport `hccl`: Huawei's Ascend NPUs through HCCL, loaded at run time. Buffers lie on the device, streams are
// aclrtStreams. Sums follow HCCL's order, not the tree's; an average isn't supported, nor reductions of f64 and of
// unsigned integers.

#include <chrono>
#include <memory>

#include "comm/communicator.h"
#include "comm/store/store.h"
#include "comm/watch/watchdog.h"

namespace dujiang::comm {

/// Until when ranks may take to find one another, and the setting behind it (comm.bootstrap_timeout), for messages.
struct JoinLimits {
  Deadline deadline;
  std::chrono::milliseconds bootstrap_timeout;
};

/// The communicator over all ranks of the job; collective. `device` is the NPU's number on this host, usually the local
/// rank. Ranks find one another by a root info through the watchdog's store, or by the rank table that RANK_TABLE_FILE
/// names. Throws UserError, on every rank the same, when HCCL_* variables or the rank table of one are wrong, its
/// library or device is missing, two ranks are on one device; and for ranks that don't come before the deadline.
std::unique_ptr<Communicator> make_hccl_communicator(std::shared_ptr<Watchdog> watchdog, int rank, int size, int device,
                                                     const JoinLimits& limits);

}  // namespace dujiang::comm
