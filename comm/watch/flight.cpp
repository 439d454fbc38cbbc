#include "comm/watch/flight.h"

#include <fmt/format.h>

#include <algorithm>

#include "comm/watch/trace.h"
#include "comm/watch/watchdog.h"
#include "framework/base/check.h"

namespace dujiang::comm {
namespace {

constexpr std::size_t recent_kept = 16, pending_shown = 16;

}  // namespace

Flight::Flight(std::string name, std::vector<int> members, int rank, std::shared_ptr<Watchdog> watchdog)
    : name_(std::move(name)), members_(std::move(members)), rank_(rank), watchdog_(std::move(watchdog)) {
  if (watchdog_) watchdog_->add(this);
}

Flight::~Flight() {
  close();
}

void Flight::close() {
  if (watchdog_ && !closed_.exchange(true)) watchdog_->remove(this);
}

std::shared_ptr<Flight> Flight::child(int color, const std::vector<int>& members) {
  int split = 0;
  std::shared_ptr<TraceLog> log;
  {
    const std::lock_guard lock(mutex_);
    split = splits_++;
    log = trace_;
  }
  if (members.empty()) return nullptr;
  const int self = members_[static_cast<std::size_t>(rank_)];
  std::vector<int> in_job;
  for (const int m : members) in_job.push_back(members_[static_cast<std::size_t>(m)]);
  const auto place = std::find(in_job.begin(), in_job.end(), self) - in_job.begin();
  auto part = std::make_shared<Flight>(fmt::format("{}/{}.{}", name_, split, color), std::move(in_job),
                                       static_cast<int>(place), watchdog_);
  if (log) part->keep_trace(std::move(log));
  return part;
}

Flight::Entry Flight::request(const Signature& signature, std::uint64_t bytes, std::source_location where) {
  const std::lock_guard lock(mutex_);
  if (!poison_.empty()) {
    ::dujiang::fail("{} (communicator {}): refused, because an earlier operation failed: {}", name_of(signature.op),
                    name_, poison_);
  }
  Entry entry;
  entry.id = ++ids_;
  entry.sequence = signature.op == Op::batch_send_recv ? 0 : ++sequence_;
  entry.signature = signature;
  entry.where = where;
  entry.bytes = bytes;
  entry.requested = Clock::now();
  auto& stats = stats_[static_cast<std::size_t>(signature.op)];
  stats.calls += 1;
  stats.bytes += bytes;
  pending_.push_back(entry);
  return entry;
}

void Flight::start(std::uint64_t id) {
  const auto now = Clock::now();
  const std::lock_guard lock(mutex_);
  const auto entry = std::find_if(pending_.begin(), pending_.end(), [&](const Entry& e) { return e.id == id; });
  if (entry != pending_.end()) entry->started = now;
}

void Flight::finish(std::uint64_t id) {
  const auto now = Clock::now();
  const std::lock_guard lock(mutex_);
  const auto entry = std::find_if(pending_.begin(), pending_.end(), [&](const Entry& e) { return e.id == id; });
  if (entry == pending_.end()) return;
  entry->finished = now;
  if (entry->started == Clock::time_point()) entry->started = entry->requested;
  stats_[static_cast<std::size_t>(entry->signature.op)].seconds +=
      std::chrono::duration<double>(now - entry->started).count();
  recent_.push_back(*entry);
  if (recent_.size() > recent_kept) recent_.pop_front();
  if (trace_) trace_->add(name_, *entry);
  pending_.erase(entry);
}

void Flight::fail(std::uint64_t id, const std::string& why) {
  const std::lock_guard lock(mutex_);
  std::erase_if(pending_, [&](const Entry& e) { return e.id == id; });
  if (poison_.empty()) poison_ = why;
}

void Flight::poison(const std::string& why) {
  const std::lock_guard lock(mutex_);
  if (poison_.empty()) poison_ = why;
}

bool Flight::poisoned() const {
  const std::lock_guard lock(mutex_);
  return !poison_.empty();
}

void Flight::add_exposed(std::uint64_t id, Op op, double seconds) {
  const std::lock_guard lock(mutex_);
  stats_[static_cast<std::size_t>(op)].exposed_seconds += seconds;
  if (trace_) trace_->add_exposed(name_, id, seconds);
}

OpStats Flight::stats(Op op) const {
  const std::lock_guard lock(mutex_);
  return stats_[static_cast<std::size_t>(op)];
}

Flight::Snapshot Flight::snapshot() const {
  const std::lock_guard lock(mutex_);
  const auto shown = static_cast<std::ptrdiff_t>(std::min(pending_.size(), pending_shown));
  return {name_,  members_, sequence_, {recent_.begin(), recent_.end()}, {pending_.begin(), pending_.begin() + shown},
          poison_};
}

void Flight::keep_trace(std::shared_ptr<TraceLog> log) {
  const std::lock_guard lock(mutex_);
  trace_ = std::move(log);
}

std::shared_ptr<TraceLog> Flight::trace() const {
  const std::lock_guard lock(mutex_);
  return trace_;
}

}  // namespace dujiang::comm
