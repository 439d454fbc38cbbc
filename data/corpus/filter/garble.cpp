#include "data/corpus/filter/garble.h"

#include <unicode/ucnv.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "data/text/char_class.h"
#include "data/text/utf8.h"
#include "framework/base/check.h"

namespace dujiang::data {
namespace {

// The two bytes of a character in GBK, 0 where it has none.
class GbkBytes {
 public:
  static const GbkBytes& get() {
    static const GbkBytes bytes;
    return bytes;
  }
  std::uint16_t operator[](char32_t c) const { return c < bytes_.size() ? bytes_[c] : 0; }

 private:
  GbkBytes() : bytes_(0x10000) {
    UErrorCode status = U_ZERO_ERROR;
    UConverter* converter = ucnv_open("GBK", &status);
    DUJIANG_CHECK(U_SUCCESS(status), "ICU has no GBK: {}", u_errorName(status));
    for (int lead = 0x81; lead <= 0xFE; ++lead) {
      for (int trail = 0x40; trail <= 0xFE; ++trail) {
        const char bytes[2] = {static_cast<char>(lead), static_cast<char>(trail)};
        UChar units[4];
        UErrorCode error = U_ZERO_ERROR;
        if (ucnv_toUChars(converter, units, 4, bytes, 2, &error) != 1 || units[0] == 0xFFFD) continue;
        bytes_[units[0]] = static_cast<std::uint16_t>(lead << 8 | trail);
      }
    }
    ucnv_close(converter);
  }
  std::vector<std::uint16_t> bytes_;
};

// The byte that a character is in Windows-1252 or Latin-1; -1 where it is none above 0x7F.
int latin_byte(char32_t c) {
  if (c >= 0x80 && c <= 0xFF) return static_cast<int>(c);
  constexpr std::u32string_view high = U"€\x81‚ƒ„…†‡ˆ‰Š‹Œ\x8DŽ\x8F\x90‘’“”•–—˜™š›œ\x9DžŸ";  // 0x80 to 0x9F
  const auto found = high.find(c);
  return found == high.npos ? -1 : static_cast<int>(0x80 + found);
}

bool is_tail(int byte) {
  return byte >= 0x80 && byte <= 0xBF;
}

// Characters that are bytes of UTF-8 read as Latin-1 or Windows-1252: a Han character's three bytes, or the two
// characters that each byte of those became when it happened twice ("Ã¤Â¸").
std::int64_t as_latin(const std::vector<char32_t>& line) {
  std::int64_t garbled = 0;
  for (std::size_t i = 0; i + 1 < line.size();) {
    const auto byte = [&](std::size_t k) { return i + k < line.size() ? latin_byte(line[i + k]) : -1; };
    if (byte(0) >= 0xE3 && byte(0) <= 0xE9 && is_tail(byte(1)) && is_tail(byte(2))) {
      garbled += 3;
      i += 3;
    } else if ((line[i] == 0xC2 || line[i] == 0xC3) && is_tail(byte(1))) {
      garbled += 2;
      i += 2;
    } else {
      ++i;
    }
  }
  return garbled;
}

// Characters of runs whose bytes in GBK are UTF-8, four fifths of them at least: two of three bytes each, or more.
std::int64_t as_gbk(const std::vector<char32_t>& line) {
  const auto& gbk = GbkBytes::get();
  std::int64_t garbled = 0;
  std::string bytes;
  const auto end_run = [&] {
    std::size_t sound = 0;
    const auto byte = [&](std::size_t i) { return i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0; };
    for (std::size_t i = 0; i < bytes.size();) {
      const bool whole = ((byte(i) >= 0xE3 && byte(i) <= 0xE9) || (byte(i) == 0xEF && byte(i + 1) == 0xBC)) &&
                         is_tail(byte(i + 1)) && is_tail(byte(i + 2));
      sound += whole ? 3 : 0;
      i += whole ? 3 : 1;
    }
    if (sound > 0 && sound * 5 >= bytes.size() * 4) garbled += static_cast<std::int64_t>(bytes.size() / 2);
    bytes.clear();
  };
  for (const char32_t c : line) {
    const std::uint16_t pair = gbk[c];
    if (pair == 0) {
      end_run();
    } else {
      bytes += static_cast<char>(pair >> 8);
      bytes += static_cast<char>(pair & 0xFF);
    }
  }
  end_run();
  return garbled;
}

// The length of a glyph description at `i`: braces around a few Han characters and signs of composition.
std::size_t description(const std::vector<char32_t>& line, std::size_t i) {
  constexpr std::size_t longest = 14, signs_end = std::u32string_view::npos;
  const auto& classes = CharClasses::get();
  int han = 0;
  for (std::size_t k = i + 1; k < line.size() && k - i < longest; ++k) {
    const char32_t c = line[k];
    if (c == '}') return han > 0 ? k - i + 1 : 0;
    const bool is_private = c >= 0xE000 && c <= 0xF8FF;
    const bool sign = (c >= 0x2FF0 && c <= 0x2FFF) || std::u32string_view(U"=/|+-*@?()／｜，□").find(c) != signs_end;
    if (!(classes[c] & CharClass::han) && !is_private && !sign) return 0;
    han += !sign;
  }
  return 0;
}

}  // namespace

LineNoise line_noise(std::string_view text) {
  thread_local std::vector<char32_t> line;
  line.clear();
  for (std::size_t pos = 0; pos < text.size();) line.push_back(next_char(text, pos));
  const std::u32string_view all(line.data(), line.size());
  LineNoise noise;
  bool latin = false, gbk = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char32_t c = line[i];
    if (!(CharClasses::get()[c] & CharClass::suspect)) continue;
    noise.replaced += c == 0xFFFD;
    if (c == U'□' || c == U'▯') {
      ++noise.lost;
    } else if ((c >= 0xE000 && c <= 0xF8FF) || (c >= 0xF0000 && (c & 0xFFFE) != 0xFFFE)) {
      ++noise.private_use;
    } else if (c == '{') {
      const std::size_t length = description(line, i);
      noise.described += length > 0;
      noise.described_chars += static_cast<std::int64_t>(length);
    } else if (c >= 0xA0 && c <= 0xE9) {
      latin = true;
    } else if (all.substr(i, 3) == U"锟斤拷") {
      noise.garbled += 3;
    } else if (c == U'烫' || c == U'屯') {
      // Three and more in a row: MSVC's fill of memory, 0xCC and 0xCD, as GBK.
      const std::size_t end = std::min(all.find_first_not_of(c, i), all.size());
      if (end - i >= 3) noise.garbled += static_cast<std::int64_t>(end - i);
      i = end - 1;
    } else if (CharClasses::get()[c] & CharClass::letter) {
      gbk = true;
    } else {
      ++noise.garbled;
    }
  }
  if (latin) noise.garbled += as_latin(line);
  if (gbk) noise.garbled += as_gbk(line);
  return noise;
}

}  // namespace dujiang::data
