#pragma once
// The watchdog's lines: from what the ranks of a job published to one sentence that says which rank is at fault. Pure
// functions; comm/README.md shows how to read the lines.

#include <optional>
#include <string>
#include <vector>

#include "comm/watch/publication.h"

namespace dujiang::comm {

/// What is known of one rank.
struct Peer {
  std::optional<Publication> publication;
  std::int64_t clock_ms = 0;  ///< its clock now, as far as known
  double silent = 0;          ///< seconds without a sign of life; 0: it is alive
  bool gone = false;          ///< its process ended without a farewell
  bool ended = false;         ///< its program ended, or gave up with a message of its own
};

/// What one rank knows of its job.
struct JobView {
  int rank = 0;
  std::vector<Peer> peers;      ///< one for each rank; the own one too
  std::string store_is_silent;  ///< where the store is, when it doesn't answer: then rank 0's process doesn't
};

/// "1.2 s", "118 s"
std::string seconds_text(double seconds);
/// "all_reduce sum of 4 x f32 (communicator world, operation 17, called from a.cpp:5)"
std::string operation_text(const SeenOperation& operation, std::string_view communicator);

/// An operation of this rank's has waited too long: for whom, and what that rank does instead.
std::string describe_wait(const JobView& job, std::string_view communicator, const SeenOperation& operation,
                          double waited);
/// Processes of other ranks are gone: which, and what this rank was doing.
std::string describe_death(const JobView& job, const std::vector<int>& gone);
/// Another rank has given up waiting, while this one waits for nobody.
std::string describe_bystander(const JobView& job, int speaker);
/// Two ranks request different operations under the same number.
std::string describe_mismatch(std::string_view communicator, int rank, const SeenOperation& own, int other,
                              const SeenOperation& theirs);

/// Whether an operation can never complete, because a rank that it needs has ended without requesting it.
bool left_alone(const JobView& job, std::string_view communicator, const SeenOperation& operation);

}  // namespace dujiang::comm
