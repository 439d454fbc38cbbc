#pragma once
// What text was before it became plain UTF-8.

#include <cstdint>

namespace dujiang::data {

/// What the bytes were before they became UTF-8.
enum class Encoding : std::uint8_t { utf8, utf16, gb18030, big5 };
/// Which Chinese script the text was written in, before any conversion; none: too little of either to tell.
enum class Script : std::uint8_t { none, simplified, traditional };

}  // namespace dujiang::data
