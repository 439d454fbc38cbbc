#pragma once
// How ranks come to share an HCCL communicator. Internal to the hccl transport.

#include <memory>
#include <vector>

#include "comm/hccl/hccl_communicator.h"
#include "comm/hccl/hccl_session.h"
#include "comm/rendezvous/seats.h"
#include "comm/watch/flight.h"
#include "comm/watch/watchdog.h"

namespace dujiang::comm {

/// The communicator over all ranks, as make_hccl_communicator() describes. `seats` receives the ranks' places.
std::shared_ptr<hccl::Handle> join_world(const std::shared_ptr<Watchdog>& watchdog, int rank, int size, int device,
                                         const JoinLimits& limits, std::vector<Seat>& seats);

/// The communicator of the ranks of `child`, or null for a rank that is left out (null child).
std::shared_ptr<hccl::Handle> make_sub_communicator(const std::shared_ptr<hccl::Handle>& global, const Flight* child);

}  // namespace dujiang::comm
