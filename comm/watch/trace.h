#pragma once
// TraceLog: the operations of one rank over time, as a Chrome trace with the communicator as thread.

#include <cstdint>
#include <deque>
#include <filesystem>
#include <mutex>
#include <string>
#include <vector>

#include "comm/watch/flight.h"
#include "framework/base/chrome_trace.h"

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
  /// What save() writes.
  std::string json() const;

 private:
  struct Record {
    std::size_t communicator = 0;
    Flight::Entry entry;
    double exposed_seconds = 0;
  };
  std::size_t number_of(const std::string& communicator);
  ChromeTrace trace() const;

  const std::filesystem::path path_;
  const int rank_;
  const std::size_t limit_;

  mutable std::mutex mutex_;
  std::vector<std::string> communicators_;
  std::deque<Record> records_;
};

}  // namespace dujiang::comm
