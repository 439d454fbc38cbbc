#pragma once
// What every transport must do, as one body run by each rank. Failures are thrown as Error, as Boost's checks may not
// be used from several threads.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "comm/communicator.h"

namespace dujiang::comm {

/// Where the suite's buffers lie and its operations are queued. Both in ordinary memory, unless the transport is a
/// device's: then a stream of the device, and memory that the host reaches too.
struct Setting {
  Stream stream{Device{}};
  std::function<std::shared_ptr<void>(std::size_t)> allocate = nullptr;
  std::function<std::shared_ptr<Stream>()> another_stream = nullptr;  ///< of the device, for a thread of its own
  /// Reductions follow the tree to the bit. Else, on a vendor's device, floating sums may err as their rounding allows
  /// in whatever order: at most ranks * epsilon * the sum of the terms' magnitudes.
  bool exact = true;
};

/// Every operation x dtype x reduction x root x count, in place and out of place; the oracle is the tree, to the bit.
void check_operations(Communicator& communicator, const Setting& setting = {});

/// Sums of f32 and bf16, and moves, around a boundary of the transport (a chunk, a threshold) of `chunk_bytes`.
void check_chunk_boundaries(Communicator& communicator, std::int64_t chunk_bytes, const Setting& setting = {});

/// Every operation once, of about `bytes` that end in the middle of a line of the cache.
void check_size(Communicator& communicator, std::int64_t bytes, const Setting& setting = {});

/// Many operations of different kinds and sizes requested before the first is waited for.
void check_queued_operations(Communicator& communicator, const Setting& setting = {});

/// Sub-communicators: reversed, overlapping, nested, left out.
void check_split(Communicator& communicator, const Setting& setting = {});

/// Communicators made and ended `times` times, each used once.
void check_many_communicators(Communicator& communicator, int times, const Setting& setting = {});

/// Two communicators over the same ranks, each used by a thread of its own at the same time.
void check_two_threads(Communicator& communicator, const Setting& setting = {});

/// One sum of more than 2^31 elements and bytes; a broadcast where sums of u8 aren't supported. Takes 2 GiB a rank.
void check_more_than_2_to_the_31(Communicator& communicator, const Setting& setting = {});

}  // namespace dujiang::comm
