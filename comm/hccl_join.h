#pragma once
// How ranks come to share an HCCL communicator. Internal to the hccl transport.

#include <memory>
#include <string>
#include <vector>

#include "comm/flight.h"
#include "comm/hccl_session.h"
#include "comm/store.h"
#include "comm/watchdog.h"

namespace dujiang::comm {

/// The communicator over all ranks, as make_hccl_communicator() describes. `hosts` receives the ranks' host names.
std::shared_ptr<hccl::Handle> join_world(const std::shared_ptr<Watchdog>& watchdog, int rank, int size, int device,
                                         Deadline deadline, std::vector<std::string>& hosts);

/// Collective over the ranks of `flight`: those that give this rank's colour, ordered by key, then by rank; empty for a
/// negative colour. `split` counts the splits of this communicator.
std::vector<int> split_members(const Flight& flight, int split, int color, int key);

/// The communicator of the ranks of `child`, or null for a rank that is left out (null child).
std::shared_ptr<hccl::Handle> make_sub_communicator(const std::shared_ptr<hccl::Handle>& global, const Flight* child);

}  // namespace dujiang::comm
