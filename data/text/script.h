#pragma once
// Simplified and traditional Chinese, by OpenCC's dictionaries.

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "data/text/encoding.h"

namespace dujiang::data {

/// Characters that are written so in one script only.
struct ScriptCounts {
  std::size_t simplified = 0, traditional = 0;
  /// The script with more than twice the other's; none when neither has.
  Script script() const;
};

ScriptCounts count_script(std::string_view text);

/// Traditional to simplified. Immutable: one may serve all threads.
class Simplifier {
 public:
  /// One of OpenCC's configurations that lead to simplified text: t2s, tw2s, tw2sp (with Taiwan's words), hk2s.
  /// UserError for others, or when OpenCC's files are missing.
  explicit Simplifier(const std::string& config);
  ~Simplifier();
  std::string operator()(std::string_view text) const;

 private:
  struct Converter;
  std::unique_ptr<Converter> converter_;
};

}  // namespace dujiang::data
