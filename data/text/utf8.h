#pragma once
// UTF-8 by the strict definition (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace dujiang::data {

/// The offset of the first byte that isn't part of a valid character; text.size() when all is valid.
std::size_t utf8_valid_prefix(std::string_view text);

/// The length of the valid character at the start of `text` (which isn't empty), 0 when there is none.
std::size_t valid_char(std::string_view text);

/// The character at `pos` of valid text; moves pos behind it.
inline char32_t next_char(std::string_view text, std::size_t& pos) {
  const auto tail = [&](std::size_t i) { return static_cast<char32_t>(text[pos + i] & 0x3F); };
  const auto first = static_cast<unsigned char>(text[pos]);
  char32_t c = first;
  std::size_t length = 1;
  if (first >= 0xF0) {
    c = (first & 0x07u) << 18 | tail(1) << 12 | tail(2) << 6 | tail(3);
    length = 4;
  } else if (first >= 0xE0) {
    c = (first & 0x0Fu) << 12 | tail(1) << 6 | tail(2);
    length = 3;
  } else if (first >= 0xC0) {
    c = (first & 0x1Fu) << 6 | tail(1);
    length = 2;
  }
  pos += length;
  return c;
}

void append_utf8(std::string& out, char32_t c);

/// Characters in valid text.
std::size_t count_chars(std::string_view text);

/// Han by Unicode's script property: all extensions, those to come in planes 2 and 3, 〇 and 々 too.
bool is_han(char32_t c);

/// Full width and written without spaces between words: Han, kana, CJK punctuation, full-width forms.
bool is_wide(char32_t c);

}  // namespace dujiang::data
