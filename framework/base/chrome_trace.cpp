#include "framework/base/chrome_trace.h"

#include <fstream>

#include "framework/base/check.h"

namespace dujiang {
namespace {

template <class Duration>
double microseconds(Duration d) {
  return std::chrono::duration<double, std::micro>(d).count();
}

}  // namespace

ChromeTrace::ChromeTrace(int rank)
    : rank_(rank), system_(std::chrono::system_clock::now()), steady_(std::chrono::steady_clock::now()) {
  events_.push_back(
      {{"name", "process_name"}, {"ph", "M"}, {"pid", rank_}, {"args", {{"name", fmt::format("rank {}", rank_)}}}});
}

void ChromeTrace::name_thread(std::size_t thread, const std::string& name) {
  events_.push_back(
      {{"name", "thread_name"}, {"ph", "M"}, {"pid", rank_}, {"tid", thread}, {"args", {{"name", name}}}});
}

void ChromeTrace::add(const std::string& name, std::string_view category, std::size_t thread, Clock::time_point begin,
                      Clock::time_point end, nlohmann::ordered_json arguments) {
  events_.push_back({{"name", name},
                     {"cat", category},
                     {"ph", "X"},
                     {"pid", rank_},
                     {"tid", thread},
                     {"ts", microseconds(system_.time_since_epoch()) + microseconds(begin - steady_)},
                     {"dur", microseconds(end - begin)},
                     {"args", std::move(arguments)}});
}

std::string ChromeTrace::str() const {
  return events_.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

void ChromeTrace::save(const std::filesystem::path& path) const {
  std::ofstream out(path, std::ios::trunc);
  out << str() << '\n' << std::flush;
  if (!out) fail_user("{}: cannot be written", path.string());
}

}  // namespace dujiang
