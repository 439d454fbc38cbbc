#pragma once
// Watchdog: a thread of each rank that makes sure no rank hangs in silence. It publishes what this rank's
// communicators are doing, and ends the process with one line that names the rank and the operation at fault when an
// operation takes longer than the timeout or when another rank's process is gone.

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "comm/flight.h"
#include "comm/store.h"

namespace dujiang::comm {

/// When ranks compare what they are about to do, before data moves.
enum class AgreementCheck : std::uint8_t { off, first, always };

class Watchdog : public std::enable_shared_from_this<Watchdog> {
 public:
  struct Options {
    std::chrono::milliseconds timeout{120'000};  ///< of one operation; 0: never
    AgreementCheck check = AgreementCheck::first;
    /// Ends the process; the default flushes stdout and stderr and exits with status 1. For tests.
    std::function<void()> end_process;
  };

  /// `rank` of `size` in the job.
  Watchdog(std::shared_ptr<Store> store, int rank, int size, Options options);
  ~Watchdog();

  const std::shared_ptr<Store>& store() const { return store_; }
  std::chrono::milliseconds timeout() const { return options_.timeout; }

  void add(Flight* flight);
  void remove(Flight* flight);

  /// Before an operation moves data: compares it with the other ranks' operation of the same number, at the first use
  /// of a call site or always. Returns when all agree; throws Error that names the ranks that disagree, with both
  /// operations and where they were called; returns as well when the timeout passes, for the watchdog will speak.
  void agree(const Flight& flight, const Flight::Entry& entry);

  /// A transport found its operation failing, or the job is ending: this rank says why a peer may be at fault.
  /// Returns the line to print, or empty when nothing is amiss with the others.
  std::string diagnosis();

  /// The job is ending in an orderly way, or another message was printed: say nothing any more.
  void silence();

 private:
  void run();
  void publish();

  const std::shared_ptr<Store> store_;
  const int rank_, size_;
  const Options options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<Flight*> flights_;
  std::set<std::string> agreed_;  ///< call sites
  std::atomic<bool> silent_{false};
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace dujiang::comm
