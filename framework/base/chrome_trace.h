#pragma once
// What one rank did over time, as a Chrome trace (chrome://tracing, Perfetto): a JSON array of events, with the rank as
// process. Traces of several ranks, or of several kinds, can be opened together.

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace dujiang {

class ChromeTrace {
 public:
  using Clock = std::chrono::steady_clock;

  explicit ChromeTrace(int rank);
  void name_thread(std::size_t thread, const std::string& name);
  /// An event that took from `begin` to `end`. Within a thread events nest by their times.
  void add(const std::string& name, std::string_view category, std::size_t thread, Clock::time_point begin,
           Clock::time_point end, nlohmann::ordered_json arguments);

  /// Times are microseconds of the system's clock, so that ranks can be laid side by side.
  std::string str() const;
  /// Writes the file anew. Throws UserError when it can't be written.
  void save(const std::filesystem::path& path) const;

 private:
  int rank_;
  std::chrono::system_clock::time_point system_;
  Clock::time_point steady_;  ///< the same moment as system_
  nlohmann::ordered_json events_ = nlohmann::ordered_json::array();
};

}  // namespace dujiang
