#pragma once
// TraceLog: the operations of one rank over time, as a Chrome trace (chrome://tracing, Perfetto): a JSON array of
// complete events, with the rank as process and the communicator as thread.

#include <chrono>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <mutex>
#include <string>
#include <vector>

#include "comm/watch/flight.h"

namespace dujiang::comm {

class TraceLog {
 public:
  /// Keeps the last `limit` operations, about 150 bytes each.
  TraceLog(std::filesystem::path path, int rank, std::size_t limit);

  /// Notes a finished operation.
  void add(const std::string& communicator, const Flight::Entry& entry);
  /// Its caller waited for it.
  void add_exposed(const std::string& communicator, std::uint64_t id, double seconds);

  /// Writes the file anew. Throws UserError when it can't be written.
  void save() const;
  /// What save() writes. Times are microseconds of the system's clock, so that ranks can be laid side by side.
  std::string json() const;

 private:
  struct Record {
    std::size_t communicator = 0;
    Flight::Entry entry;
    double exposed_seconds = 0;
  };
  std::size_t number_of(const std::string& communicator);

  const std::filesystem::path path_;
  const int rank_;
  const std::size_t limit_;
  const std::chrono::system_clock::time_point system_;
  const Flight::Clock::time_point steady_;  ///< the same moment as system_

  mutable std::mutex mutex_;
  std::vector<std::string> communicators_;
  std::deque<Record> records_;
};

}  // namespace dujiang::comm
