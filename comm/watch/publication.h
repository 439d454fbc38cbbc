#pragma once
// What a rank tells the others of its operations: the text under the store's key "flight/<rank>", and back.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "comm/watch/flight.h"

namespace dujiang::comm {

/// One operation as its rank published it. Times are milliseconds of that rank's clock: clocks of hosts differ.
struct SeenOperation {
  std::uint64_t sequence = 0;  ///< 0 for batch_send_recv
  Signature signature;
  std::string where;       ///< "framework/parallel/data_parallel.cpp:48"
  bool finished = false;   ///< else pending
  std::int64_t at_ms = 0;  ///< when it was finished, else when it was requested
  bool operator==(const SeenOperation&) const = default;
};

struct SeenCommunicator {
  std::string name;
  std::vector<int> members;
  std::uint64_t sequence = 0;             ///< of the last collective requested
  bool closed = false;                    ///< destroyed: nothing more will be requested
  std::vector<SeenOperation> operations;  ///< finished ones first, each kind oldest first
  /// The collective of that number, if it is still remembered.
  const SeenOperation* find(std::uint64_t number) const;
  bool operator==(const SeenCommunicator&) const = default;
};

struct Publication {
  std::int64_t clock_ms = 0;  ///< when it was written
  std::vector<SeenCommunicator> communicators;
  const SeenCommunicator* find(std::string_view name) const;
  bool operator==(const Publication&) const = default;
};

/// The rank that a key such as "flight/3" names after its prefix.
std::optional<int> rank_after(std::string_view key, std::string_view prefix);

/// This process's clock.
std::int64_t clock_ms(Flight::Clock::time_point time = Flight::Clock::now());
/// A place in the source relative to the source tree: "comm/watch/publication.cpp:12".
std::string place_of(const std::source_location& where);
std::string place_of(std::string_view file, std::uint32_t line);

SeenOperation seen(const Flight::Entry& entry);
SeenCommunicator seen(const Flight::Snapshot& snapshot, bool closed);

/// At most `limit` bytes: what was finished long ago is left out first, then communicators from the end.
std::string encode(const Publication& publication, std::size_t limit);
/// Nothing when the text is something else.
std::optional<Publication> decode(std::string_view text);

std::string encode(const SeenOperation& operation);
std::optional<SeenOperation> decode_operation(std::string_view line);

}  // namespace dujiang::comm
