#pragma once
// What every fuzzer asks of text that comes out.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "data/text/utf8.h"

namespace dujiang::fuzz {

inline void require(bool condition) {
  if (!condition) std::abort();  // libFuzzer keeps the input
}

/// UTF-8 without replacement characters.
inline void require_sound(std::string_view text) {
  require(data::utf8_valid_prefix(text) == text.size());
  require(text.find("\xEF\xBF\xBD") == text.npos);
}

}  // namespace dujiang::fuzz
