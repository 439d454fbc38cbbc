#include "data/text/normalise.h"

namespace dujiang::data {

namespace {

constexpr char escape = '\x1B';

// The position after the escape sequence that starts at `pos`.
std::size_t skip_escape(std::string_view text, std::size_t pos) {
  const auto in = [&](std::size_t i, char low, char high) {
    return i < text.size() && text[i] >= low && text[i] <= high;
  };
  ++pos;
  if (in(pos, '[', '[')) {  // CSI: parameters, intermediates, one final byte
    ++pos;
    while (in(pos, '\x30', '\x3F')) ++pos;
    while (in(pos, '\x20', '\x2F')) ++pos;
    return in(pos, '\x40', '\x7E') ? pos + 1 : pos;
  }
  if (in(pos, ']', ']') || in(pos, 'P', 'P') || in(pos, 'X', 'X') || in(pos, '^', '_')) {  // a string up to BEL or ST
    for (std::size_t end = pos + 1; end < text.size() && text[end] != '\n'; ++end) {
      if (text[end] == '\a') return end + 1;
      if (text[end] == escape && in(end + 1, '\\', '\\')) return end + 2;
    }
    return pos + 1;
  }
  while (in(pos, '\x20', '\x2F')) ++pos;
  return in(pos, '\x30', '\x7E') ? pos + 1 : pos;
}

}  // namespace

std::string strip_terminal_codes(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t pos = 0; pos < text.size();) {
    std::size_t next = pos;
    while (next < text.size() && text[next] != escape && text[next] != '\b') ++next;
    out.append(text, pos, next - pos);
    pos = next;
    if (pos == text.size()) break;
    if (text[pos] == escape) {
      pos = skip_escape(text, pos);
      continue;
    }
    while (!out.empty() && (out.back() & 0xC0) == 0x80) out.pop_back();
    if (!out.empty() && out.back() != '\n') out.pop_back();
    ++pos;
  }
  return out;
}

}  // namespace dujiang::data
