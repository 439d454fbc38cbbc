#include "data/text/char_class.h"

#include <unicode/uchar.h>
#include <unicode/ucnv.h>
#include <unicode/uscript.h>

#include <array>
#include <map>
#include <string_view>

#include "framework/base/check.h"

namespace dujiang::data {
namespace {

using Page = std::array<std::uint8_t, 256>;

bool one_of(char32_t c, std::u32string_view set) {
  return set.find(c) != set.npos;
}

std::uint8_t class_of(char32_t c) {
  const auto u = static_cast<UChar32>(c);
  UErrorCode status = U_ZERO_ERROR;
  const UScriptCode script = uscript_getScript(u, &status);
  std::uint8_t bits = 0;
  const bool han = script == USCRIPT_HAN || (c >= 0x20000 && c <= 0x3FFFD);
  if (han) bits |= CharClass::han;
  if (han || u_isalpha(u)) bits |= CharClass::letter;
  const bool wide = han || script == USCRIPT_HIRAGANA || script == USCRIPT_KATAKANA || script == USCRIPT_BOPOMOFO;
  const auto category = u_charType(u);
  const bool mark = category == U_NON_SPACING_MARK || category == U_COMBINING_SPACING_MARK;
  if (!wide && (u_isalnum(u) || mark)) bits |= CharClass::word;
  if (u_isUWhiteSpace(u) || u_iscntrl(u) || one_of(c, U"\u200B\u200C\u200D\u2060\uFEFF")) bits |= CharClass::space;
  if (one_of(c, U"。！？…；．.!?;︒｡")) bits |= CharClass::sentence_end;
  if (one_of(c, U"”’」』）》】〉〕)]\"'")) bits |= CharClass::closing;
  if (one_of(c, U"{}()[]<>=;_$&*+\\`\"'")) bits |= CharClass::code;
  // U+FFFD, controls, private use, noncharacters, the empty boxes, braces' contents (by '{'), Latin-1's upper half,
  // and what U+FFFD and uninitialised memory look like in GBK: 锟斤拷, 烫, 屯.
  if (c == 0xFFFD || (c >= 0x80 && c <= 0x9F) || category == U_PRIVATE_USE_CHAR || (c & 0xFFFE) == 0xFFFE ||
      (c >= 0xFDD0 && c <= 0xFDEF) || (c >= 0xC2 && c <= 0xE9) || one_of(c, U"□▯{锟烫屯")) {
    bits |= CharClass::suspect;
  }
  return bits;
}

// The characters that the first two bytes of a Han character or of Chinese punctuation in UTF-8 make when read as GBK:
// 涓 for 中's E4 B8, 锛 for ，'s EF BC.
std::vector<char32_t> gbk_readings() {
  UErrorCode status = U_ZERO_ERROR;
  UConverter* converter = ucnv_open("GBK", &status);
  DUJIANG_CHECK(U_SUCCESS(status), "ICU has no GBK: {}", u_errorName(status));
  std::vector<char32_t> out;
  const auto add = [&](int lead, int trail) {
    const char bytes[2] = {static_cast<char>(lead), static_cast<char>(trail)};
    UChar units[4];
    UErrorCode error = U_ZERO_ERROR;
    if (ucnv_toUChars(converter, units, 4, bytes, 2, &error) == 1 && units[0] != 0xFFFD) out.push_back(units[0]);
  };
  for (int lead = 0xE4; lead <= 0xE9; ++lead) {
    for (int trail = 0x80; trail <= 0xBF; ++trail) add(lead, trail);
  }
  for (const int pair : {0xE280, 0xE380, 0xEFBC}) add(pair >> 8, pair & 0xFF);
  ucnv_close(converter);
  return out;
}

}  // namespace

CharClasses::CharClasses() {
  constexpr char32_t last = 0x10FFFF;
  std::vector<char32_t> readings = gbk_readings();
  std::map<Page, std::uint16_t> known;
  for (char32_t first = 0; first <= last; first += 256) {
    Page page;
    for (char32_t c = 0; c < 256; ++c) page[c] = class_of(first + c);
    for (const char32_t c : readings) {
      if (c >> 8 == first >> 8) page[c & 0xFF] |= CharClass::suspect;
    }
    const auto [entry, is_new] = known.emplace(page, static_cast<std::uint16_t>(known.size()));
    if (is_new) classes_.insert(classes_.end(), page.begin(), page.end());
    pages_.push_back(entry->second);
  }
}

const CharClasses& CharClasses::get() {
  static const CharClasses classes;
  return classes;
}

}  // namespace dujiang::data
