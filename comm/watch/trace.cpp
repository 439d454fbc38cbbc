#include "comm/watch/trace.h"

#include <algorithm>

#include "comm/watch/publication.h"

namespace dujiang::comm {
TraceLog::TraceLog(std::filesystem::path path, int rank, std::size_t limit)
    : path_(std::move(path)), rank_(rank), limit_(limit) {}

std::size_t TraceLog::number_of(const std::string& communicator) {
  const auto found = std::find(communicators_.begin(), communicators_.end(), communicator);
  const auto number = static_cast<std::size_t>(found - communicators_.begin());
  if (number == communicators_.size()) communicators_.push_back(communicator);
  return number;
}

void TraceLog::add(const std::string& communicator, const Flight::Entry& entry) {
  const std::lock_guard lock(mutex_);
  const auto number = number_of(communicator);
  records_.push_back({number, entry, 0});
  if (records_.size() > limit_) records_.pop_front();
}

void TraceLog::add_exposed(const std::string& communicator, std::uint64_t id, double seconds) {
  const std::lock_guard lock(mutex_);
  const auto number = number_of(communicator);
  const auto record = std::find_if(records_.rbegin(), records_.rend(),
                                   [&](const Record& r) { return r.communicator == number && r.entry.id == id; });
  if (record != records_.rend()) record->exposed_seconds += seconds;
}

ChromeTrace TraceLog::trace() const {
  const std::lock_guard lock(mutex_);
  ChromeTrace trace(rank_);
  for (std::size_t i = 0; i < communicators_.size(); ++i) trace.name_thread(i, communicators_[i]);
  for (const auto& r : records_) {
    const auto& e = r.entry;
    trace.add(e.signature.str(), name_of(e.signature.op), r.communicator, e.started, e.finished,
              {{"sequence", e.sequence},
               {"bytes", e.bytes},
               {"queued_us", std::chrono::duration<double, std::micro>(e.started - e.requested).count()},
               {"exposed_us", r.exposed_seconds * 1e6},
               {"called_from", place_of(e.where)}});
  }
  return trace;
}

std::string TraceLog::json() const {
  return trace().str();
}
void TraceLog::save() const {
  trace().save(path_);
}

}  // namespace dujiang::comm
