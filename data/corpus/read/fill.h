#pragma once
// Joins pieces of text into lines, as a formatter fills paragraphs.

#include <string>
#include <string_view>

namespace dujiang::data {

class LineFiller {
 public:
  /// Adds text whose white space is to be collapsed. A collapsed run becomes one space, or nothing when it holds a
  /// line break and stands between two full-width characters.
  void add(std::string_view text);
  /// Adds text as it is; its newlines end lines.
  void add_verbatim(std::string_view text);
  void break_line();
  /// One empty line before what comes next, unless nothing came yet.
  void break_block();
  /// All text; lines carry no white space at their ends.
  std::string finish();

 private:
  void flush_space();

  std::string out_, line_;
  enum class Space { none, blank, newline } space_ = Space::none;
  char32_t last_ = 0;   // last character of line_
  char32_t next_ = 0;   // the one about to follow
  bool block_ = false;  // an empty line is due
};

}  // namespace dujiang::data
