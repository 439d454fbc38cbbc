#include "framework/base/op_profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace dujiang {
namespace {

bool transposed(const View& view) {
  return view.strides[-1] != 1 && view.strides[-2] == 1;
}

std::string shape_of(const OpCall& call) {
  const View& first = *call.views.front();
  if (call.cost.flops == 0 || call.cost.attention) return first.shape.str();
  const View& second = *call.views[1];
  const std::int64_t m = first.shape[-2], n = second.shape[-1], k = first.shape[-1];
  const std::int64_t times = first.count() / std::max<std::int64_t>(m * k, 1);
  return fmt::format("a{}·b{} {}{}x{}x{}", transposed(first) ? "ᵀ" : "", transposed(second) ? "ᵀ" : "",
                     times == 1 ? "" : fmt::format("{} of ", times), m, n, k);
}

}  // namespace

std::size_t OpProfile::row_of(const OpCall& call) {
  Row row;
  if (!open_.empty()) row.section = sections_[open_.back().section].name;
  row.op = call.op;
  row.attention = call.cost.attention;
  for (const View* view : call.views)
    if (view->defined()) row.views.push_back(view->str());
  const auto found = std::find_if(rows_.begin(), rows_.end(), [&](const Row& r) {
    return r.op == row.op && r.section == row.section && r.views == row.views;
  });
  if (found != rows_.end()) return static_cast<std::size_t>(found - rows_.begin());
  row.shape = shape_of(call);
  rows_.push_back(std::move(row));
  return rows_.size() - 1;
}

double OpProfile::close(const Event& begun) {
  Event event = begun;
  event.end = Clock::now();
  events_.push_back(event);
  const double seconds = std::chrono::duration<double>(event.end - event.begin).count();
  if (!open_.empty()) open_.back().inside += seconds;
  return seconds;
}

void OpProfile::call(const OpCall& call, const std::function<void()>& run) {
  const std::size_t index = row_of(call);
  const OpObserverScope alone(nullptr);
  const auto begin = Clock::now();
  run();
  auto& row = rows_[index];
  row.seconds += close({false, index, begin, {}, call.cost.flops, call.cost.bytes});
  row.flops += call.cost.flops;
  row.bytes += call.cost.bytes;
  ++row.calls;
}

void OpProfile::begin_section(const char* name) {
  const auto found = std::find_if(sections_.begin(), sections_.end(), [&](const Section& s) { return s.name == name; });
  const auto index = static_cast<std::size_t>(found - sections_.begin());
  if (found == sections_.end()) sections_.push_back({.name = name});
  open_.push_back({index, Clock::now()});
}

void OpProfile::end_section() {
  const Open ended = open_.back();
  open_.pop_back();
  auto& section = sections_[ended.section];
  const double seconds = close({true, ended.section, ended.begin, {}, 0, 0});
  section.seconds += seconds;
  section.rest += seconds - ended.inside;
  ++section.calls;
}

ChromeTrace OpProfile::trace(int rank) const {
  ChromeTrace trace(rank);
  trace.name_thread(0, "ops");
  for (const auto& e : events_) {
    if (e.is_section) {
      trace.add(sections_[e.index].name, "section", 0, e.begin, e.end, nlohmann::ordered_json::object());
      continue;
    }
    const Row& row = rows_[e.index];
    trace.add(row.op, "op", 0, e.begin, e.end,
              {{"shape", row.shape}, {"views", row.views}, {"flops", e.flops}, {"bytes", e.bytes}});
  }
  return trace;
}

}  // namespace dujiang
