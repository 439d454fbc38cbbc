#pragma once

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "framework/base/check.h"

namespace dujiang::launch {

/// Whole numbers between spaces, commas or line ends. UserError naming `origin` and the byte otherwise.
inline std::vector<std::int32_t> parse_ids(std::string_view text, const std::string& origin) {
  std::vector<std::int32_t> ids;
  const auto is_gap = [](char c) { return c == ' ' || c == ',' || c == '\n' || c == '\t' || c == '\r'; };
  for (const char *at = text.data(), *end = at + text.size(); at != end;) {
    if (is_gap(*at)) {
      ++at;
      continue;
    }
    std::int32_t id = 0;
    const auto [behind, error] = std::from_chars(at, end, id);
    if (error != std::errc{} || (behind != end && !is_gap(*behind))) {
      fail_user("{}: byte {}: expected token ids, whole numbers between spaces or commas", origin, at - text.data());
    }
    ids.push_back(id);
    at = behind;
  }
  return ids;
}

}  // namespace dujiang::launch
