#pragma once
// Text in other encodings, by ICU, as tests need it.

#include <unicode/ucnv.h>

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "framework/base/check.h"

namespace dujiang::test {

/// GB 18030-2022's named changes: character, its code now, the code that the private-use point took over, that point.
struct Gb2022 {
  char32_t c;
  std::string_view two, four;
  char32_t private_use;
};
inline constexpr Gb2022 gb2022[] = {
    {0xFE10, "\xA6\xD9", "\x84\x31\x82\x36", 0xE78D},  // PRESENTATION FORM FOR VERTICAL COMMA
    {0xFE12, "\xA6\xDA", "\x84\x31\x82\x38", 0xE78E},  // ... IDEOGRAPHIC FULL STOP
    {0xFE11, "\xA6\xDB", "\x84\x31\x82\x37", 0xE78F},  // ... IDEOGRAPHIC COMMA
    {0xFE13, "\xA6\xDC", "\x84\x31\x82\x39", 0xE790},  // ... COLON
    {0xFE14, "\xA6\xDD", "\x84\x31\x83\x30", 0xE791},  // ... SEMICOLON
    {0xFE15, "\xA6\xDE", "\x84\x31\x83\x31", 0xE792},  // ... EXCLAMATION MARK
    {0xFE16, "\xA6\xDF", "\x84\x31\x83\x32", 0xE793},  // ... QUESTION MARK
    {0xFE17, "\xA6\xEC", "\x84\x31\x83\x33", 0xE794},  // ... LEFT WHITE LENTICULAR BRACKET
    {0xFE18, "\xA6\xED", "\x84\x31\x83\x34", 0xE795},  // ... RIGHT WHITE LENTICULAR BRAKCET
    {0xFE19, "\xA6\xF3", "\x84\x31\x83\x35", 0xE796},  // ... HORIZONTAL ELLIPSIS
    {0x9FB4, "\xFE\x59", "\x82\x35\x90\x37", 0xE81E}, {0x9FB5, "\xFE\x61", "\x82\x35\x90\x38", 0xE826},
    {0x9FB6, "\xFE\x66", "\x82\x35\x90\x39", 0xE82B}, {0x9FB7, "\xFE\x67", "\x82\x35\x91\x30", 0xE82C},
    {0x9FB8, "\xFE\x6D", "\x82\x35\x91\x31", 0xE832}, {0x9FB9, "\xFE\x7E", "\x82\x35\x91\x32", 0xE843},
    {0x9FBA, "\xFE\x90", "\x82\x35\x91\x33", 0xE854}, {0x9FBB, "\xFE\xA0", "\x82\x35\x91\x34", 0xE864}};

class Encoder {
 public:
  explicit Encoder(const char* name) : gb18030_(std::string_view(name) == "gb18030") {
    UErrorCode status = U_ZERO_ERROR;
    converter_.reset(ucnv_open(name, &status));
    ucnv_setFromUCallBack(converter_.get(), UCNV_FROM_U_CALLBACK_STOP, nullptr, nullptr, nullptr, &status);
    DUJIANG_CHECK(U_SUCCESS(status), "ICU: no {}", name);
  }

  /// Empty when the encoding lacks the character.
  std::string operator()(char32_t c) const {
    if (gb18030_) {
      for (const Gb2022& change : gb2022) {
        if (c == change.c) return std::string(change.two);
        if (c == change.private_use) return std::string(change.four);
      }
    }
    UChar units[2] = {static_cast<UChar>(c), 0};
    if (c > 0xFFFF) {
      units[0] = static_cast<UChar>(0xD7C0 + (c >> 10));
      units[1] = static_cast<UChar>(0xDC00 + (c & 0x3FF));
    }
    char out[8];
    UErrorCode status = U_ZERO_ERROR;
    ucnv_reset(converter_.get());
    const int size = ucnv_fromUChars(converter_.get(), out, 8, units, c > 0xFFFF ? 2 : 1, &status);
    return U_FAILURE(status) ? std::string() : std::string(out, static_cast<std::size_t>(size));
  }

  /// Error when a character is lacking.
  std::string operator()(std::u32string_view text) const {
    std::string out;
    for (const char32_t c : text) {
      const std::string code = (*this)(c);
      DUJIANG_CHECK(!code.empty(), "the encoding lacks U+{:04X}", static_cast<unsigned>(c));
      out += code;
    }
    return out;
  }

 private:
  struct Close {
    void operator()(UConverter* converter) const { ucnv_close(converter); }
  };
  bool gb18030_;
  std::unique_ptr<UConverter, Close> converter_;
};

inline std::string utf16(std::u32string_view text, bool big, bool mark) {
  std::string out;
  const auto unit = [&](unsigned u) {
    const char high = static_cast<char>(u >> 8), low = static_cast<char>(u & 0xFF);
    out += big ? high : low;
    out += big ? low : high;
  };
  if (mark) unit(0xFEFF);
  for (const char32_t c : text) {
    if (c > 0xFFFF) unit(0xD7C0 + static_cast<unsigned>(c >> 10));
    unit(c > 0xFFFF ? 0xDC00 + static_cast<unsigned>(c & 0x3FF) : static_cast<unsigned>(c));
  }
  return out;
}

}  // namespace dujiang::test
