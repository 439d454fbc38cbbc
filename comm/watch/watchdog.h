#pragma once
// Watchdog: makes sure that no rank hangs in silence. It publishes what this rank's communicators are doing, and ends
// the process with one line that names the rank and the operation at fault when an operation takes longer than the
// timeout or when another rank's process is gone. comm/README.md shows how to read the line.
//
// Two threads: one talks to the store, which may take long or hang; the other watches the clock, the ranks that are
// gone and SIGTERM, and never waits for the store longer than a few seconds. Operations themselves don't touch the
// store, but for the agreement check.

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "comm/store/store.h"
#include "comm/watch/flight.h"
#include "comm/watch/publication.h"
#include "comm/watch/sigterm.h"
#include "comm/watch/watchdog_report.h"

namespace dujiang::comm {

/// When ranks compare what they are about to do, before data moves.
enum class AgreementCheck : std::uint8_t { off, first, always };

class Watchdog {
 public:
  struct Options {
    std::chrono::milliseconds timeout{120'000};  ///< of one operation; 0: never
    AgreementCheck check = AgreementCheck::first;
    /// Gets the line, or nothing when another rank has said what there is to say, and ends the process. The default
    /// prints the line to stderr, flushes, gives the other ranks a moment for theirs and exits with status 1; it also
    /// takes SIGTERM, as SigtermNotice does. For tests.
    std::function<void(const std::string& line)> end_process = {};
  };

  /// What the store holds under "ended/<rank>" once a rank has closed its last communicator without failing.
  /// Any other value says that the rank has failed and told so itself; the other ranks then end without a word.
  static constexpr std::string_view ended_orderly = "orderly";

  /// `rank` of `size` in the job.
  Watchdog(std::shared_ptr<Store> store, int rank, int size, Options options);
  /// Publishes a last time. While an exception unwinds it leaves telling the others to run_job.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  const std::shared_ptr<Store>& store() const { return store_; }
  std::chrono::milliseconds timeout() const { return options_.timeout; }

  void add(Flight* flight);
  void remove(Flight* flight);

  /// Before an operation moves data: compares it with the other ranks' operation of the same number, at the first use
  /// of a call site or always. Returns when all agree; throws Error that names the ranks that disagree, with both
  /// operations and where they were called; returns as well when the timeout passes, for the watchdog will speak.
  void agree(const Flight& flight, const Flight::Entry& entry);

  /// A transport found its operation failing: the line to print when another rank is to blame, else empty. The caller
  /// ends the process with it. When the watchdog is about to print its own line, waits for that end instead.
  std::string diagnosis();

  /// Another message was printed, or is about to be: say nothing any more.
  void silence() { silent_ = true; }

 private:
  using Clock = Flight::Clock;
  using Milliseconds = std::chrono::milliseconds;
  struct Waiting {
    std::string communicator;
    SeenOperation operation;
    double seconds = 0;
  };
  struct Heard {
    std::int64_t clock_ms = 0;
    Clock::time_point since;
  };
  // A communicator and a place in the source: file, line, column.
  using Site = std::tuple<const Flight*, std::string_view, std::uint_least32_t, std::uint_least32_t>;

  // The watching thread.
  void watch();
  std::optional<std::string> verdict();
  void speak(const std::string& line);
  void save_traces() const;
  void linger();
  void end_by_sigterm();

  // The thread that talks to the store.
  void keep_records();
  void beat();
  void publish();
  void tell_orderly();
  void tell_end(std::string_view how);
  void listen();
  JobView look();
  template <class Result>
  std::optional<Result> ask(std::function<Result()> job, Milliseconds patience);

  std::vector<Flight::Snapshot> snapshots() const;
  Publication own_publication() const;
  std::optional<Waiting> longest_wait() const;
  std::vector<int> news_of_gone() const;
  std::map<int, std::string> ended() const;
  JobView local_view() const;
  bool stopping() const;
  void compare(const Flight& flight, const SeenOperation& own, Clock::time_point start);
  void wake() const;

  const std::shared_ptr<Store> store_;
  const int rank_, size_;
  const Options options_;
  const Milliseconds period_;  ///< between two heartbeats
  const int exceptions_, event_fd_;
  std::optional<SigtermNotice> sigterm_;

  mutable std::mutex mutex_;  ///< guards what follows
  std::condition_variable changed_;
  std::set<Flight*> flights_;
  std::deque<SeenCommunicator> closed_;
  std::map<int, std::string> ended_;
  std::deque<std::function<void()>> jobs_;
  bool stop_ = false;

  std::mutex agreeing_;
  std::set<Site> agreed_;

  // Of the thread that talks to the store.
  std::string published_;
  std::map<int, Heard> heard_;  ///< each rank's heartbeat, and since when it is the same

  std::atomic<bool> silent_{false}, ending_{false}, end_told_{false};
  std::atomic<Clock::time_point> looked_{};      ///< for ranks that left this one alone
  std::atomic<Clock::time_point> terminated_{};  ///< when another rank was first seen to be ended by SIGTERM
  std::thread records_, watch_;
};

}  // namespace dujiang::comm
