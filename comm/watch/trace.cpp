#include "comm/watch/trace.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "comm/watch/publication.h"
#include "framework/base/check.h"

namespace dujiang::comm {
namespace {

template <class Duration>
double microseconds(Duration d) {
  return std::chrono::duration<double, std::micro>(d).count();
}

}  // namespace

TraceLog::TraceLog(std::filesystem::path path, int rank, std::size_t limit)
    : path_(std::move(path)),
      rank_(rank),
      limit_(limit),
      system_(std::chrono::system_clock::now()),
      steady_(Flight::Clock::now()) {}

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

std::string TraceLog::json() const {
  using Json = nlohmann::ordered_json;
  const std::lock_guard lock(mutex_);
  Json events = Json::array();
  events.push_back(
      {{"name", "process_name"}, {"ph", "M"}, {"pid", rank_}, {"args", {{"name", fmt::format("rank {}", rank_)}}}});
  for (std::size_t i = 0; i < communicators_.size(); ++i) {
    events.push_back(
        {{"name", "thread_name"}, {"ph", "M"}, {"pid", rank_}, {"tid", i}, {"args", {{"name", communicators_[i]}}}});
  }
  const double origin = microseconds(system_.time_since_epoch());
  for (const auto& r : records_) {
    const auto& e = r.entry;
    events.push_back({{"name", e.signature.str()},
                      {"cat", name_of(e.signature.op)},
                      {"ph", "X"},
                      {"pid", rank_},
                      {"tid", r.communicator},
                      {"ts", origin + microseconds(e.started - steady_)},
                      {"dur", microseconds(e.finished - e.started)},
                      {"args",
                       {{"sequence", e.sequence},
                        {"bytes", e.bytes},
                        {"queued_us", microseconds(e.started - e.requested)},
                        {"exposed_us", r.exposed_seconds * 1e6},
                        {"called_from", place_of(e.where)}}}});
  }
  return events.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void TraceLog::save() const {
  std::ofstream out(path_, std::ios::trunc);
  out << json() << '\n' << std::flush;
  if (!out) fail_user("{}: cannot be written", path_.string());
}

}  // namespace dujiang::comm
