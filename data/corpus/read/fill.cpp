#include "data/corpus/read/fill.h"

#include "data/text/utf8.h"

namespace dujiang::data {

void LineFiller::flush_space() {
  const bool joined = space_ == Space::newline && is_wide(last_) && is_wide(next_);
  if (space_ != Space::none && !line_.empty() && !joined) line_ += ' ';
  space_ = Space::none;
}

void LineFiller::add(std::string_view text) {
  for (std::size_t pos = 0; pos < text.size();) {
    const char32_t c = next_char(text, pos);
    if (c == '\n' || c == '\r') {
      space_ = Space::newline;
    } else if (c == ' ' || c == '\t' || c == '\f') {
      if (space_ == Space::none) space_ = Space::blank;
    } else {
      next_ = c;
      flush_space();
      append_utf8(line_, c);
      last_ = c;
    }
  }
}

void LineFiller::add_verbatim(std::string_view text) {
  if (text.empty()) return;
  std::size_t first = 0;
  next_ = next_char(text, first);
  flush_space();
  for (std::size_t begin = 0;;) {
    const std::size_t newline = text.find('\n', begin);
    line_ += text.substr(begin, newline - begin);
    if (newline == text.npos) break;
    break_line();
    begin = newline + 1;
  }
  last_ = 0;
}

void LineFiller::break_line() {
  space_ = Space::none;
  line_.erase(line_.find_last_not_of(" \t") + 1);
  if (line_.empty()) return;
  if (block_ && !out_.empty()) out_ += '\n';
  block_ = false;
  out_ += line_;
  out_ += '\n';
  line_.clear();
  last_ = 0;
}

void LineFiller::break_block() {
  break_line();
  block_ = true;
}

std::string LineFiller::finish() {
  break_line();
  return std::move(out_);
}

}  // namespace dujiang::data
