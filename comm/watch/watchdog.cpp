#include "comm/watch/watchdog.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <exception>
#include <future>

#include "comm/watch/trace.h"
#include "framework/base/check.h"

namespace dujiang::comm {
namespace {

using namespace std::chrono_literals;

constexpr auto tick = 100ms;
constexpr auto patience = 2000ms;        // with the store, before the watching thread goes on without it
constexpr std::size_t closed_kept = 16;  // communicators that are no more
constexpr std::size_t publication_limit = 60'000;
// Another rank that failed tells so and ends the job with its own status; this is how long it has for that.
constexpr auto failing_grace = 10s;
constexpr std::string_view ended_watchdog = "watchdog", ended_sigterm = "SIGTERM";

double seconds(Flight::Clock::duration d) {
  return std::chrono::duration<double>(d).count();
}

}  // namespace

Watchdog::Watchdog(std::shared_ptr<Store> store, int rank, int size, Options options)
    : store_(std::move(store)),
      rank_(rank),
      size_(size),
      options_(std::move(options)),
      period_(500 * std::max(1, size / 64)),
      exceptions_(std::uncaught_exceptions()),
      event_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  DUJIANG_CHECK(event_fd_ >= 0, "the watchdog of rank {} gets no eventfd: {}", rank, std::strerror(errno));
  if (!options_.end_process) sigterm_.emplace(event_fd_);
  records_ = std::thread([this] { keep_records(); });
  watch_ = std::thread([this] { watch(); });
  store_->on_gone([this] { wake(); });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  wake();
  watch_.join();
  records_.join();
  store_->on_gone(nullptr);
  sigterm_.reset();
  close(event_fd_);
  if (std::uncaught_exceptions() > exceptions_ || silent_ || ending_) return;
  try {
    tell_orderly();
  } catch (const std::exception&) {
    // The store is gone, and with it those who would want to know.
  }
}

void Watchdog::tell_orderly() {
  publish();
  tell_end(ended_orderly);
}

// What was told first stays: a rank that has left, and then ends with the others, is still one that had left.
void Watchdog::tell_end(std::string_view how) {
  if (!end_told_.exchange(true)) store_->set(fmt::format("ended/{}", rank_), how);
}

void Watchdog::wake() const {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = write(event_fd_, &one, sizeof one);
}

bool Watchdog::stopping() const {
  const std::lock_guard lock(mutex_);
  return stop_;
}

void Watchdog::add(Flight* flight) {
  const std::lock_guard lock(mutex_);
  flights_.insert(flight);
}

void Watchdog::remove(Flight* flight) {
  {
    const std::lock_guard lock(mutex_);
    flights_.erase(flight);
    closed_.push_back(seen(flight->snapshot(), true));
    if (closed_.size() > closed_kept) closed_.pop_front();
    // Nothing can be split from what is no more. MPI may yet keep this process until the others have come.
    if (flights_.empty() && std::uncaught_exceptions() == exceptions_ && !silent_ && !ending_) {
      jobs_.push_back([this] { tell_orderly(); });
      changed_.notify_all();
    }
  }
  const std::lock_guard lock(agreeing_);
  std::erase_if(agreed_, [&](const Site& site) { return std::get<0>(site) == flight; });
}

// What this rank knows of itself.

std::vector<Flight::Snapshot> Watchdog::snapshots() const {
  const std::lock_guard lock(mutex_);
  std::vector<Flight::Snapshot> all;
  for (const Flight* flight : flights_) all.push_back(flight->snapshot());
  return all;
}

Publication Watchdog::own_publication() const {
  Publication own{clock_ms(), {}};
  for (const auto& snapshot : snapshots()) own.communicators.push_back(seen(snapshot, false));
  const std::lock_guard lock(mutex_);
  own.communicators.insert(own.communicators.end(), closed_.rbegin(), closed_.rend());
  return own;
}

// Operations of one communicator run one after the other, and behind those of others requested before: what waits in a
// queue that moves isn't stuck.
std::optional<Watchdog::Waiting> Watchdog::longest_wait() const {
  const auto all = snapshots();
  const auto now = Clock::now();
  std::optional<Waiting> longest;
  for (const auto& own : all) {
    if (!own.poison.empty()) continue;
    for (const auto& entry : own.pending) {
      const bool started = entry.started != Clock::time_point();
      auto since = std::max(entry.requested, entry.started);
      for (const auto& other : all) {
        if (started && &other != &own) continue;
        for (const auto& done : other.recent) {
          if (done.requested <= entry.requested) since = std::max(since, done.finished);
        }
      }
      const double waited = seconds(now - since);
      if (!longest || waited > longest->seconds) longest = Waiting{own.name, seen(entry), waited};
    }
  }
  return longest;
}

std::vector<int> Watchdog::news_of_gone() const {
  auto gone = store_->gone();
  if (gone.empty()) return gone;
  std::set<int> companions;
  for (const auto& own : snapshots()) companions.insert(own.members.begin(), own.members.end());
  std::erase_if(gone, [&](int r) { return r == rank_ || !companions.contains(r); });
  return gone;
}

std::map<int, std::string> Watchdog::ended() const {
  const std::lock_guard lock(mutex_);
  return ended_;
}

JobView Watchdog::local_view() const {
  JobView job{rank_, std::vector<Peer>(static_cast<std::size_t>(size_)), {}};
  auto& self = job.peers[static_cast<std::size_t>(rank_)];
  self.publication = own_publication();
  self.clock_ms = self.publication->clock_ms;
  const auto ends = ended();
  for (const auto& [r, how] : ends) job.peers[static_cast<std::size_t>(r)].ended = how == ended_orderly;
  for (const int r : store_->gone()) {
    if (r >= 0 && r < size_) job.peers[static_cast<std::size_t>(r)].gone = !ends.contains(r);
  }
  return job;
}

// The thread that talks to the store.

void Watchdog::keep_records() {
  auto next = Clock::now();
  for (;;) {
    std::function<void()> job;
    {
      std::unique_lock lock(mutex_);
      changed_.wait_until(lock, std::min(next, Clock::now() + tick), [this] { return stop_ || !jobs_.empty(); });
      if (stop_) return;
      if (!jobs_.empty()) {
        job = std::move(jobs_.front());
        jobs_.pop_front();
      }
    }
    try {
      if (job) {
        job();
      } else if (Clock::now() >= next) {
        next = Clock::now() + period_;
        beat();
      } else if (const auto wait = longest_wait(); wait && wait->seconds > 0.05) {
        publish();  // others may be waiting to see it
      }
    } catch (const std::exception&) {
      // The store doesn't answer; the watching thread finds that out for itself when it matters.
    }
  }
}

void Watchdog::beat() {
  listen();
  store_->set(fmt::format("alive/{}", rank_), fmt::format("{}", clock_ms()));
  publish();
  // Others are watched closely only while this rank waits for them.
  const auto wait = longest_wait();
  const auto quarter = options_.timeout.count() > 0 ? seconds(options_.timeout) / 4 : 1.0;
  if (!wait || wait->seconds < std::min(1.0, quarter)) {
    heard_.clear();
    return;
  }
  const auto alive = store_->list("alive/");
  const auto now = Clock::now();
  for (const auto& [key, value] : alive) {
    const auto r = rank_after(key, "alive/");
    std::int64_t clock = 0;
    std::from_chars(value.data(), value.data() + value.size(), clock);
    if (!r) continue;
    auto& heard = heard_[*r];
    if (heard.clock_ms != clock) heard = {clock, now};
  }
}

void Watchdog::publish() {
  auto own = own_publication();
  const auto clock = std::exchange(own.clock_ms, 0);
  auto text = encode(own, publication_limit);
  if (text == published_) return;
  own.clock_ms = clock;
  store_->set(fmt::format("flight/{}", rank_), encode(own, publication_limit));
  published_ = std::move(text);
}

void Watchdog::listen() {
  std::map<int, std::string> ends;
  for (auto& [key, value] : store_->list("ended/")) {
    const auto r = rank_after(key, "ended/");
    if (r && *r != rank_ && *r >= 0 && *r < size_) ends[*r] = std::move(value);
  }
  const std::lock_guard lock(mutex_);
  ended_ = std::move(ends);
}

JobView Watchdog::look() {
  listen();
  JobView job = local_view();
  try {
    for (const auto& [key, value] : store_->list("flight/")) {
      const auto r = rank_after(key, "flight/");
      if (!r || *r < 0 || *r >= size_ || *r == rank_) continue;
      auto& peer = job.peers[static_cast<std::size_t>(*r)];
      peer.publication = decode(value);
      if (peer.publication) peer.clock_ms = peer.publication->clock_ms;
    }
    const auto now = Clock::now();
    const auto alive = store_->list("alive/");
    for (const auto& [key, value] : alive) {
      const auto r = rank_after(key, "alive/");
      if (!r || *r < 0 || *r >= size_ || *r == rank_) continue;
      auto& peer = job.peers[static_cast<std::size_t>(*r)];
      std::int64_t clock = 0;
      std::from_chars(value.data(), value.data() + value.size(), clock);
      peer.clock_ms = std::max(peer.clock_ms, clock);
      const auto heard = heard_.find(*r);
      if (heard == heard_.end() || heard->second.clock_ms != clock) continue;
      const auto same = now - heard->second.since;
      peer.clock_ms += std::chrono::duration_cast<Milliseconds>(same).count();
      if (same >= std::max<Clock::duration>(4 * period_, 2s)) peer.silent = seconds(same);
    }
  } catch (const std::exception&) {
    if (!job.peers[0].gone) job.store_is_silent = store_->where();
  }
  return job;
}

template <class Result>
std::optional<Result> Watchdog::ask(std::function<Result()> job, Milliseconds limit) {
  auto task = std::make_shared<std::packaged_task<Result()>>(std::move(job));
  auto result = task->get_future();
  {
    const std::lock_guard lock(mutex_);
    if (stop_) return {};
    jobs_.push_back([task] { (*task)(); });
  }
  changed_.notify_all();
  if (result.wait_for(limit) != std::future_status::ready) return {};
  try {
    return result.get();
  } catch (const std::exception&) {
    return {};
  }
}

// The watching thread.

void Watchdog::watch() {
  while (!stopping()) {
    pollfd event{event_fd_, POLLIN, 0};
    poll(&event, 1, static_cast<int>(tick.count()));
    std::uint64_t count = 0;
    [[maybe_unused]] const auto drained = read(event_fd_, &count, sizeof count);
    if (sigterm_ && sigterm_->received()) end_by_sigterm();
    if (silent_ || ending_) continue;
    if (const auto line = verdict(); line && !silent_) speak(*line);
  }
}

// The line to end with, an empty one when another rank has said it, or nothing when all is well.
std::optional<std::string> Watchdog::verdict() {
  const auto see = [this] {
    if (auto job = ask<JobView>([this] { return look(); }, patience)) return *job;
    auto job = local_view();
    if (!job.peers[0].gone) job.store_is_silent = store_->where();
    return job;
  };
  if (!news_of_gone().empty()) {
    const auto job = see();
    std::vector<int> gone;
    for (const int r : news_of_gone()) {
      if (job.peers[static_cast<std::size_t>(r)].gone) gone.push_back(r);
    }
    if (!gone.empty()) return describe_death(job, gone);
  }
  const auto wait = longest_wait();
  if (wait && options_.timeout.count() > 0 && wait->seconds >= seconds(options_.timeout)) {
    return describe_wait(see(), wait->communicator, wait->operation, wait->seconds);
  }
  for (const auto& [r, how] : ended()) {
    if (how == ended_orderly) {
      if (!wait || wait->seconds < 0.2 || Clock::now() - looked_.load() < period_) continue;
      looked_ = Clock::now();
      const auto job = see();
      if (!left_alone(job, wait->communicator, wait->operation)) continue;
      return describe_wait(job, wait->communicator, wait->operation, wait->seconds);
    }
    if (how == ended_watchdog) {
      const auto job = see();
      return wait ? describe_wait(job, wait->communicator, wait->operation, wait->seconds) : describe_bystander(job, r);
    }
    if (how == ended_sigterm) {
      // Sent to all ranks, it is no news.
      if (terminated_.load() == Clock::time_point()) terminated_ = Clock::now();
      if (Clock::now() - terminated_.load() < 1s) continue;
      return describe_death(see(), {r});
    }
    return std::string();
  }
  return {};
}

void Watchdog::speak(const std::string& line) {
  if (line.empty()) {
    const auto end = Clock::now() + failing_grace;
    while (!options_.end_process && store_->gone().empty() && Clock::now() < end) {
      if (silent_ || stopping()) return;  // this rank fails too, and has a message of its own
      std::this_thread::sleep_for(20ms);
    }
  }
  if (ending_.exchange(true)) return;
  if (options_.end_process) {
    if (!line.empty()) {
      ask<bool>([this] { return tell_end(ended_watchdog), true; }, 500ms);
    }
    return options_.end_process(line);
  }
  std::fflush(stdout);
  if (!line.empty()) fmt::print(stderr, "{}\n", line);
  std::fflush(stderr);
  save_traces();
  if (!line.empty()) linger();
  _exit(1);
}

// As far as there is time.
void Watchdog::save_traces() const {
  std::set<std::shared_ptr<TraceLog>> logs;
  {
    const std::lock_guard lock(mutex_);
    for (const Flight* flight : flights_) {
      if (auto log = flight->trace()) logs.insert(std::move(log));
    }
  }
  for (const auto& log : logs) {
    try {
      log->save();
    } catch (const std::exception& e) {
      fmt::print(stderr, "dujiang: rank {} of {}: {}\n", rank_, size_, e.what());
    }
  }
}

// A launcher kills the others as soon as the first has ended: each shall have told its line by then. Rank 0 keeps the
// store, without which the others know nothing.
void Watchdog::linger() {
  const auto end = Clock::now() + (rank_ == 0 ? 1500ms : 1000ms);
  if (!ask<bool>([this] { return tell_end(ended_watchdog), true; }, 500ms)) {
    return std::this_thread::sleep_for(300ms);  // without the store there is nobody to look for
  }
  const auto job = ask<JobView>([this] { return look(); }, 500ms);
  while (Clock::now() < end) {
    std::this_thread::sleep_for(50ms);
    if (!job || !ask<bool>([this] { return listen(), true; }, 500ms)) continue;
    const auto ends = ended();
    const auto gone = store_->gone();
    bool all = true;
    for (int r = 0; r < size_; ++r) {
      const bool expected = r != rank_ && job->peers[static_cast<std::size_t>(r)].silent == 0 &&
                            std::find(gone.begin(), gone.end(), r) == gone.end();
      all = all && (!expected || ends.contains(r));
    }
    if (all) return std::this_thread::sleep_for(rank_ == 0 ? 100ms : 0ms);
  }
}

// Sent because a rank is gone, or by a user: a moment tells.
void Watchdog::end_by_sigterm() {
  const auto end = Clock::now() + 500ms;
  while (!silent_ && !ending_ && Clock::now() < end) {
    if (const auto line = verdict()) return speak(*line);
    std::this_thread::sleep_for(20ms);
  }
  if (ending_) return;
  // mpirun may notice sooner than the store that a host can't be reached.
  const auto wait = silent_ ? std::nullopt : longest_wait();
  if (const auto job = wait ? ask<JobView>([this] { return look(); }, 200ms) : std::nullopt) {
    const auto silent = [](const Peer& peer) { return peer.silent > 0; };
    if (std::any_of(job->peers.begin(), job->peers.end(), silent)) {
      return speak(describe_wait(*job, wait->communicator, wait->operation, wait->seconds));
    }
  }
  ask<bool>([this] { return tell_end(ended_sigterm), true; }, 200ms);
  SigtermNotice::end_by_default();
}

std::string Watchdog::diagnosis() {
  // A transport may notice sooner than the store that a process is gone.
  const auto end = Clock::now() + 500ms;
  do {
    if (ending_) std::this_thread::sleep_for(5s);
    if (ending_ || silent_) return {};
    if (const auto line = verdict()) {
      if (line->empty()) speak(*line);
      silent_ = true;
      return *line;
    }
    std::this_thread::sleep_for(20ms);
  } while (Clock::now() < end);
  return {};
}

}  // namespace dujiang::comm
