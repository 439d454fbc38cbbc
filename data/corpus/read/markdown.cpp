#include <algorithm>
#include <cctype>
#include <string>
#include <string_view>
#include <vector>

#include "data/corpus/read/fill.h"
#include "data/corpus/read/markup.h"

namespace dujiang::data {
namespace {

bool is_alnum(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0;
}

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") + 1 - first);
}

// A line of at least three of one of the signs and nothing else but blanks: "---", "* * *".
bool is_ruler(std::string_view line, std::string_view signs) {
  std::size_t count = 0;
  char sign = 0;
  for (const char c : line) {
    if (c == ' ' || c == '\t') continue;
    if (sign == 0) sign = c;
    if (c != sign || signs.find(c) == signs.npos) return false;
    ++count;
  }
  return count >= 3;
}

// "|---|:--:|", the second line of a table.
bool is_table_ruler(std::string_view line) {
  return line.find('-') != line.npos && line.find('|') != line.npos && line.find_first_not_of("|-: \t") == line.npos;
}

// Behind the bracket that closes the one at `open`, npos when none does.
std::size_t behind_bracket(std::string_view text, std::size_t open, char opening, char closing) {
  std::size_t depth = 0;
  for (std::size_t i = open; i < text.size(); ++i) {
    if (text[i] == '\\') {
      ++i;
    } else if (text[i] == opening) {
      ++depth;
    } else if (text[i] == closing && --depth == 0) {
      return i + 1;
    }
  }
  return text.npos;
}

// How far a closing sign may stand from its opening one, and how deep they may nest: without these, hostile lines would
// take time that grows with the square of their length.
constexpr std::size_t reach = 1024, deepest = 16;

// Where the emphasis that begins at `open` ends: at the same sign, which doesn't stand alone; npos when nowhere.
std::size_t emphasis_end(std::string_view line, std::size_t open) {
  const char sign = line[open];
  const auto within_word = [&](std::size_t i) {
    return i > 0 && is_alnum(line[i - 1]) && i + 1 < line.size() && is_alnum(line[i + 1]);
  };
  if (open + 1 >= line.size() || line[open + 1] == ' ' || within_word(open)) return line.npos;
  for (std::size_t i = open + 2; i < std::min(line.size(), open + reach); ++i) {
    if (line[i] == sign && line[i - 1] != ' ' && !within_word(i)) return i;
  }
  return line.npos;
}

// A line's text without its inline markup.
class Inline {
 public:
  explicit Inline(std::string_view line, std::size_t depth = 0) : line_(line), depth_(depth) {}

  std::string text() {
    while (at_ < line_.size()) {
      const char c = line_[at_];
      const char next = at_ + 1 < line_.size() ? line_[at_ + 1] : '\0';
      const bool taken = c == '\\'                               ? escape(next)
                         : c == '`'                              ? code()
                         : c == '[' || (c == '!' && next == '[') ? link()
                         : c == '<'                              ? tag(next)
                         : c == '*' || c == '_' || c == '~'      ? emphasis(c, next)
                                                                 : false;
      if (!taken) out_ += line_[at_++];
    }
    return std::move(out_);
  }

 private:
  bool escape(char next) {
    if (!std::ispunct(static_cast<unsigned char>(next))) return false;
    out_ += next;
    at_ += 2;
    return true;
  }

  // A run of backquotes up to the same run.
  bool code() {
    const std::string_view rest = line_.substr(at_, reach);
    const std::size_t run = std::min(rest.find_first_not_of('`'), rest.size());
    const std::size_t close = rest.find(rest.substr(0, run), run);
    if (close != rest.npos) out_ += trimmed(rest.substr(run, close - run));
    at_ += close == rest.npos ? run : close + run;
    return true;
  }

  // A link's text; nothing of images and footnote marks.
  bool link() {
    const bool image = line_[at_] == '!';
    const std::size_t open = at_ + (image ? 1 : 0);
    const std::size_t close = behind_bracket(line_.substr(0, open + reach), open, '[', ']');
    if (close == line_.npos || depth_ == deepest) return false;
    std::size_t end = close;
    // Addresses may be long: those of pictures within the page. One that doesn't end is the last that is looked for.
    if (close < line_.size() && line_[close] == '(' && !unclosed_) end = behind_bracket(line_, close, '(', ')');
    if (close < line_.size() && line_[close] == '[')
      end = behind_bracket(line_.substr(0, close + reach), close, '[', ']');
    if (end == line_.npos) {
      unclosed_ = true;
      end = close;
    }
    const std::string_view text = line_.substr(open + 1, close - open - 2);
    if (!image && !text.starts_with('^')) {
      if (end == close) return false;
      out_ += Inline(text, depth_ + 1).text();
    }
    at_ = end;
    return true;
  }

  bool tag(char next) {
    if (!std::isalpha(static_cast<unsigned char>(next)) && next != '/') return false;
    const std::size_t close = line_.substr(at_, reach).find('>');
    if (close == line_.npos) return false;
    const std::string_view tag = line_.substr(at_ + 1, close - 1);
    if (tag.find("://") < tag.find_first_of(" \"'=")) out_ += tag;  // <https://...>
    at_ += close + 1;
    return true;
  }

  bool emphasis(char c, char next) {
    if (next == c) {
      at_ += 2;
      return true;
    }
    const std::size_t end = c == '~' || depth_ == deepest ? line_.npos : emphasis_end(line_, at_);
    if (end == line_.npos) return false;
    out_ += Inline(line_.substr(at_ + 1, end - at_ - 1), depth_ + 1).text();
    at_ = end + 1;
    return true;
  }

  std::string_view line_;
  std::size_t depth_, at_ = 0;
  bool unclosed_ = false;
  std::string out_;
};

std::string inline_text(std::string_view line) {
  return Inline(line).text();
}

class Converter {
 public:
  explicit Converter(CodeBlocks code) : code_(code) {}

  std::string run(std::string_view text) {
    text = text.substr(front_matter(text));
    while (!text.empty()) {
      const std::size_t end = text.find('\n');
      std::string_view line = text.substr(0, end);
      text.remove_prefix(end == text.npos ? text.size() : end + 1);
      if (line.ends_with('\r')) line.remove_suffix(1);
      const std::string_view next = text.substr(0, text.find('\n'));
      take(line, next);
    }
    return out_.finish();
  }

 private:
  static std::size_t front_matter(std::string_view text) {
    for (const std::string_view fence : {"---", "+++"}) {
      const std::size_t first_end = text.find('\n');
      if (first_end == text.npos || trimmed(without_return(text.substr(0, first_end))) != fence) continue;
      for (std::size_t at = first_end + 1; at < text.size();) {
        const std::size_t end = std::min(text.find('\n', at), text.size());
        const std::string_view line = without_return(text.substr(at, end - at));
        at = std::min(end + 1, text.size());
        if (line == fence || (fence == "---" && line == "...")) return at;
      }
    }
    return 0;
  }

  static std::string_view without_return(std::string_view line) {
    return line.ends_with('\r') ? line.substr(0, line.size() - 1) : line;
  }

  void take(std::string_view line, std::string_view next) {
    std::string_view text = trimmed(line);
    if (!fence_.empty()) {
      if (text.starts_with(fence_) && text.find_first_not_of(fence_[0]) == text.npos) {
        fence_.clear();
        out_.break_block();
      } else if (code_ == CodeBlocks::keep) {
        out_.add_verbatim(line);
        out_.add_verbatim("\n");
      }
      return;
    }
    if (in_comment_) return end_comment(text);
    while (text.starts_with('>')) text = trimmed(text.substr(1));
    if (text.starts_with("```") || text.starts_with("~~~")) {
      const std::size_t run = std::min(text.find_first_not_of(text[0]), text.size());
      if (text.find('`', run) == text.npos || text[0] == '~') {
        fence_ = text.substr(0, run);
        return out_.break_block();
      }
    }
    if (text.starts_with("<!--")) {
      in_comment_ = true;
      return end_comment(text.substr(4));
    }
    if (text.empty()) {
      in_table_ = false;
      return out_.break_block();
    }
    if (is_ruler(text, "-*_") || is_ruler(text, "=")) return out_.break_block();
    if (text.starts_with('[') && text.find("]:") != text.npos && text.find("]:") == text.find(']')) return;
    if (text.starts_with('#')) return heading(text);
    if (is_table_ruler(text)) {
      in_table_ = true;
      return;
    }
    if (is_table_ruler(trimmed(without_return(next))) || (in_table_ && text.find('|') != text.npos)) return row(text);
    in_table_ = false;
    const bool item = text.size() > 1 && (text[0] == '-' || text[0] == '*' || text[0] == '+') && text[1] == ' ';
    const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
    const bool numbered = digits > 0 && digits < text.size() && (text[digits] == '.' || text[digits] == ')');
    if (item) text = trimmed(text.substr(2));
    if (item || numbered) out_.break_line();
    if (item && (text.starts_with("[ ] ") || text.starts_with("[x] "))) text.remove_prefix(4);
    const bool hard_break = line.ends_with("  ") || line.ends_with('\\');
    if (line.ends_with('\\')) text.remove_suffix(1);
    out_.add(inline_text(text));
    out_.add("\n");
    if (hard_break) out_.break_line();
  }

  void end_comment(std::string_view text) {
    const std::size_t end = text.find("-->");
    if (end == text.npos) return;
    in_comment_ = false;
    const std::string_view rest = trimmed(text.substr(end + 3));
    if (!rest.empty()) take(rest, {});
  }

  void heading(std::string_view text) {
    const std::size_t level = std::min(text.find_first_not_of('#'), text.size());
    if (level > 6 || (level < text.size() && text[level] != ' ' && text[level] != '\t')) {
      out_.add(inline_text(text));
      return out_.add("\n");
    }
    text = trimmed(text.substr(level));
    const std::size_t attributes = text.rfind("{#");
    if (attributes != text.npos && text.ends_with('}')) text = trimmed(text.substr(0, attributes));
    text = text.substr(0, text.find_last_not_of('#') + 1);
    out_.break_block();
    out_.add(inline_text(trimmed(text)));
    out_.break_block();
  }

  void row(std::string_view text) {
    out_.break_line();
    std::string cell;
    for (std::size_t i = 0; i <= text.size(); ++i) {
      if (i < text.size() && text[i] == '\\' && i + 1 < text.size() && text[i + 1] == '|') {
        cell += text[++i];
      } else if (i < text.size() && text[i] != '|') {
        cell += text[i];
      } else {
        out_.add(inline_text(trimmed(cell)));
        out_.add(" ");
        cell.clear();
      }
    }
    out_.break_line();
  }

  CodeBlocks code_;
  LineFiller out_;
  std::string fence_;
  bool in_comment_ = false, in_table_ = false;
};

}  // namespace

std::string markdown_to_text(std::string_view markdown, CodeBlocks code) {
  return Converter(code).run(markdown);
}

}  // namespace dujiang::data
