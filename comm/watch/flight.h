#pragma once
// The flight record of one communicator: its operations by number, which of them run, how long they took. The front
// writes it, transports mark start and end, the watchdog and statistics read it. Thread-safe.

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <source_location>
#include <string>
#include <vector>

#include "comm/operation.h"

namespace dujiang::comm {

class TraceLog;
class Watchdog;

/// What one communicator did with one kind of operation.
struct OpStats {
  std::uint64_t calls = 0;
  std::uint64_t bytes = 0;     ///< of the whole vector: the larger of send and receive, on each rank
  double seconds = 0;          ///< running in the transport, whether or not somebody waited; queueing excluded
  double exposed_seconds = 0;  ///< what callers spent in Work::wait and wait_host
};

class Flight {
 public:
  using Clock = std::chrono::steady_clock;

  struct Entry {
    std::uint64_t id = 0;        ///< 1, 2, ... on this rank
    std::uint64_t sequence = 0;  ///< of a collective: 1, 2, ..., the same on every rank; 0 for batch_send_recv
    Signature signature;
    std::source_location where;
    std::uint64_t bytes = 0;
    Clock::time_point requested, started, finished;  ///< zero where it hasn't happened
  };

  /// What a watchdog needs of it.
  struct Snapshot {
    std::string name;
    std::vector<int> members;
    std::uint64_t sequence = 0;  ///< of the last collective requested
    std::vector<Entry> recent;   ///< the last ones finished, oldest first
    std::vector<Entry> pending;  ///< requested and not finished, oldest first, at most 16
    std::string poison;
  };

  /// `name` is the same on all ranks of the communicator and no other's: "world", "world/1.0" (first split, colour 0).
  /// `members` are its ranks in the job, `rank` this one's place among them. Registers with the watchdog, if any.
  Flight(std::string name, std::vector<int> members, int rank, std::shared_ptr<Watchdog> watchdog = nullptr);
  ~Flight();
  Flight(const Flight&) = delete;
  Flight& operator=(const Flight&) = delete;

  /// The communicator is being destroyed: nothing more will be requested. The destructor does it too; a transport whose
  /// own destructor waits for other ranks does it before, so that they can tell.
  void close();

  const std::string& name() const { return name_; }
  const std::vector<int>& members() const { return members_; }
  int rank() const { return rank_; }
  const std::shared_ptr<Watchdog>& watchdog() const { return watchdog_; }
  /// The record of a communicator split from this one: every rank calls it once per split. `members` are ranks of this
  /// communicator, in the order of the new one; empty for a rank that is left out, which gets null.
  std::shared_ptr<Flight> child(int color, const std::vector<int>& members);

  /// Notes a request and returns its entry. Throws Error when poisoned.
  Entry request(const Signature& signature, std::uint64_t bytes, std::source_location where);
  void start(std::uint64_t id);
  void finish(std::uint64_t id);
  /// The operation failed: poisons. Keeps the first reason.
  void fail(std::uint64_t id, const std::string& why);
  void poison(const std::string& why);
  bool poisoned() const;

  /// What a caller spent waiting for an operation.
  void add_exposed(std::uint64_t id, Op op, double seconds);
  OpStats stats(Op op) const;
  Snapshot snapshot() const;

  /// From now on every operation of this communicator, and of those split from it later, is noted there.
  void keep_trace(std::shared_ptr<TraceLog> log);
  std::shared_ptr<TraceLog> trace() const;

 private:
  const std::string name_;
  const std::vector<int> members_;
  const int rank_;
  const std::shared_ptr<Watchdog> watchdog_;

  mutable std::mutex mutex_;
  std::uint64_t ids_ = 0, sequence_ = 0;
  int splits_ = 0;
  std::deque<Entry> pending_, recent_;
  std::shared_ptr<TraceLog> trace_;
  std::array<OpStats, op_count> stats_;
  std::string poison_;
  std::atomic<bool> closed_{false};
};

}  // namespace dujiang::comm
