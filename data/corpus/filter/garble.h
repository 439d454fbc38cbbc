#pragma once
// Text that was decoded wrongly before it came here, and characters that were lost.

#include <cstdint>
#include <string_view>

namespace dujiang::data {

/// Characters of a line by what is wrong with them.
struct LineNoise {
  std::int64_t replaced = 0;  // U+FFFD
  std::int64_t garbled = 0;   // those, controls, noncharacters; 锟斤拷, 烫烫烫; UTF-8 read as Latin-1 or as GBK
  std::int64_t private_use = 0;
  std::int64_t lost = 0;             // □ U+25A1, ▯ U+25AF
  std::int64_t described = 0;        // glyph descriptions
  std::int64_t described_chars = 0;  // characters within them, braces too
};

/// `line`: valid UTF-8 without '\n'. Worth calling where a character has CharClass::suspect; else all are 0.
LineNoise line_noise(std::string_view line);

}  // namespace dujiang::data
