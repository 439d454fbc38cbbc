#include <algorithm>

#include "data/text/decode.h"
#include "data/text/plausible.h"
#include "data/text/utf8.h"

namespace dujiang::data {
namespace {

bool is_high(char32_t unit) {
  return unit >= 0xD800 && unit <= 0xDBFF;
}
bool is_low(char32_t unit) {
  return unit >= 0xDC00 && unit <= 0xDFFF;
}

// How well the bytes read as UTF-16 of this order: of what text holds, and with zero bytes as letters have them.
bool reads_as(std::string_view bytes, Utf16Order order) {
  const std::size_t high = order == Utf16Order::little ? 1 : 0;
  std::size_t units = 0, usual = 0, letters = 0;
  std::ptrdiff_t han = 0, frequent = 0;
  bool after_high = false;
  for (std::size_t i = 0; i + 1 < bytes.size(); i += 2, ++units) {
    const char32_t c =
        static_cast<unsigned char>(bytes[i + high]) << 8 | static_cast<unsigned char>(bytes[i + 1 - high]);
    const bool letter = (c >= 0x20 && c < 0x7F) || c == '\n' || c == '\r' || c == '\t';
    const bool is_block = c >= 0x3400 && c <= 0x9FFF;
    letters += letter;
    usual += letter || is_block || is_high(c) || (after_high && is_low(c)) || (c >= 0xA0 && c < 0x180) ||
             (c >= 0x2010 && c < 0x2700) || (c >= 0x3000 && c < 0x3100) || (c >= 0xFF00 && c < 0xFFF0);
    after_high = is_high(c);
    if (is_block) {
      ++han;
      frequent += plausibility(c);
    }
  }
  return letters > 0 && usual * 10 >= units * 9 && frequent * 5 >= han;
}

}  // namespace

std::optional<Utf16Order> utf16_order(std::string_view head) {
  if (head.starts_with(std::string_view("\xFF\xFE\0\0", 4))) return std::nullopt;
  if (head.starts_with("\xFF\xFE")) return Utf16Order::little;
  if (head.starts_with("\xFE\xFF")) return Utf16Order::big;
  head = head.substr(0, 1 << 16);
  if (head.find('\0') == head.npos) return std::nullopt;
  if (reads_as(head, Utf16Order::little)) return Utf16Order::little;
  if (reads_as(head, Utf16Order::big)) return Utf16Order::big;
  return std::nullopt;
}

void Utf16Transcoder::append(std::string_view bytes, std::string& out) {
  std::size_t pos = 0;
  const auto take = [&](unsigned first, unsigned second) {
    const char32_t unit = order_ == Utf16Order::little ? second << 8 | first : first << 8 | second;
    if (high_ != 0 && is_low(unit)) {
      append_utf8(out, 0x10000 + ((high_ - 0xD800) << 10) + (unit - 0xDC00));
      high_ = 0;
      return;
    }
    if (high_ != 0) append_utf8(out, high_);
    high_ = is_high(unit) ? unit : 0;
    if (high_ == 0) append_utf8(out, unit);
  };
  if (odd_byte_ >= 0 && !bytes.empty())
    take(static_cast<unsigned>(odd_byte_), static_cast<unsigned char>(bytes[pos++]));
  if (!bytes.empty()) odd_byte_ = -1;
  for (; pos + 1 < bytes.size(); pos += 2)
    take(static_cast<unsigned char>(bytes[pos]), static_cast<unsigned char>(bytes[pos + 1]));
  if (pos < bytes.size()) odd_byte_ = static_cast<unsigned char>(bytes[pos]);
}

bool Utf16Transcoder::finish(std::string& out) {
  if (high_ != 0) append_utf8(out, high_);
  high_ = 0;
  return odd_byte_ < 0;
}

std::uint64_t Utf16Transcoder::source_bytes(std::string_view text) {
  const auto long_ones = std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xF8) == 0xF0; });
  return 2 * (count_chars(text) + static_cast<std::uint64_t>(long_ones));
}

}  // namespace dujiang::data
