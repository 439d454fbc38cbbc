#pragma once
// Transport `hccl`: Huawei's Ascend NPUs through HCCL, loaded at run time. Buffers lie on the device, streams are
// aclrtStreams. Sums follow HCCL's order, not the tree's; an average isn't supported, nor reductions of f64 and of
// unsigned integers.

#include <cstdint>
#include <memory>

#include "comm/communicator.h"
#include "comm/store.h"
#include "comm/watchdog.h"

namespace dujiang::comm {

/// The communicator over all ranks of the job; collective. `device` is the NPU's number on this host, usually the local
/// rank. Ranks find one another by a root info through the watchdog's store, or by the rank table that RANK_TABLE_FILE
/// names. Throws UserError for HCCL_* variables or a rank table that are wrong, a missing library or device, two ranks
/// on one device, ranks that don't come before the deadline.
std::unique_ptr<Communicator> make_hccl_communicator(std::shared_ptr<Watchdog> watchdog, int rank, int size, int device,
                                                     Deadline deadline);

}  // namespace dujiang::comm
