#pragma once
// UTF-8 by the strict definition (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace dujiang::data {

/// The offset of the first byte that isn't part of a valid character; text.size() when all is valid.
std::size_t utf8_valid_prefix(std::string_view text);

/// The character at `pos` of valid text; moves pos behind it.
char32_t next_char(std::string_view text, std::size_t& pos);

void append_utf8(std::string& out, char32_t c);

/// Characters in valid text.
std::size_t count_chars(std::string_view text);

/// Han by Unicode's script property: all extensions, 〇 and 々 too.
bool is_han(char32_t c);

/// Full width and written without spaces between words: Han, kana, CJK punctuation, full-width forms.
bool is_wide(char32_t c);

}  // namespace dujiang::data
