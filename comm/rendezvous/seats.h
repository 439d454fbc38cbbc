#pragma once
// What ranks with a device each tell one another before they connect, and when they split. Internal to the nccl and
// hccl transports.

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "comm/communicator.h"
#include "comm/store/store.h"

namespace dujiang::comm {

struct Seat {
  std::string host, boot;  ///< boot is the running kernel's id: it tells apart hosts of one name
  std::string device;      ///< "NPU 3": of one rank alone on its host
  std::string software;    ///< "NCCL 22809": the same on all ranks
  std::string refusal;     ///< why this rank can't take part

  bool same_host(const Seat& other) const { return host == other.host && boot == other.boot; }
};

/// This rank's seat. `fill` says what its device and software are; an Error of it becomes the refusal.
Seat take_seat(const std::function<void(Seat&)>& fill);

/// Everyone's seats, in rank order. `store` may be null for a rank alone. Throws, on every rank the same, UserError for
/// a rank that refuses, two ranks on one device, software that differs; and for ranks that don't come in time.
std::vector<Seat> exchange_seats(std::string_view transport, Store* store, int rank, int size, const Seat& mine,
                                 Deadline deadline);

/// `seats` are those of the job's ranks.
Place place_of(const Flight& flight, const std::vector<Seat>& seats);

/// When an operation that begins now has taken longer than the watchdog of `flight` allows.
Deadline operation_deadline(const Flight& flight);

/// Collective over the ranks of `flight`: those that give this rank's colour, ordered by key, then by rank; empty for a
/// negative colour. `split` counts the splits of this communicator.
std::vector<int> split_members(const Flight& flight, int split, int color, int key, Deadline deadline);

}  // namespace dujiang::comm
