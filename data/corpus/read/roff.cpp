#include <array>
#include <cctype>
#include <utility>
#include <vector>

#include "data/corpus/read/fill.h"
#include "data/corpus/read/markup.h"
#include "data/text/utf8.h"

namespace dujiang::data {

namespace {

// Special characters by their roff names (groff_char(7)); what isn't listed is dropped.
constexpr std::pair<std::string_view, std::string_view> special_characters[] = {
    {"em", "—"}, {"en", "–"},  {"hy", "-"}, {"mi", "−"}, {"bu", "•"}, {"co", "©"}, {"rg", "®"},  {"tm", "™"},
    {"aq", "'"}, {"dq", "\""}, {"lq", "“"}, {"rq", "”"}, {"oq", "‘"}, {"cq", "’"}, {"rs", "\\"}, {"ti", "~"},
    {"ha", "^"}, {"ga", "`"},  {"->", "→"}, {"<-", "←"}, {"ge", "≥"}, {">=", "≥"}, {"le", "≤"},  {"<=", "≤"},
    {"!=", "≠"}, {"mu", "×"},  {"di", "÷"}, {"+-", "±"}, {"de", "°"}, {"if", "∞"}, {"sc", "§"},  {"bv", "|"},
    {"ba", "|"}, {"or", "|"},  {"sl", "/"}, {"ul", "_"}, {"at", "@"}, {"sh", "#"}, {"Do", "$"},  {"Eu", "€"},
    {"Po", "£"}, {"Ye", "¥"},  {"ss", "ß"}, {"*m", "μ"}, {"pl", "+"}, {"eq", "="}, {"Fo", "«"},  {"Fc", "»"},
    {"R", "®"},  {"Tm", "™"},  {"lB", "["}, {"rB", "]"}, {"lC", "{"}, {"rC", "}"}, {"Lq", "“"},  {"Rq", "”"},
    {"Ba", "|"}, {"Ge", "≥"},  {"Le", "≤"}, {"Ne", "≠"}, {"Pm", "±"}, {"If", "∞"}};

std::string special_character(std::string_view name) {
  if (name.size() >= 5 && name[0] == 'u') {  // uXXXX
    char32_t c = 0;
    for (const char digit : name.substr(1)) {
      if (!std::isxdigit(static_cast<unsigned char>(digit)) || c > 0x10FFFF) return {};
      c = c * 16 + static_cast<char32_t>(digit <= '9' ? digit - '0' : (digit | 0x20) - 'a' + 10);
    }
    std::string out;
    append_utf8(out, c);
    return utf8_valid_prefix(out) == out.size() ? out : std::string();
  }
  for (const auto& [key, value] : special_characters) {
    if (key == name) return std::string(value);
  }
  return {};
}

// Bytes of the character at pos; 0 at the end.
std::size_t char_bytes(std::string_view text, std::size_t pos) {
  return pos < text.size() ? valid_char(text.substr(pos)) : 0;
}

// A name after an escape letter: x, (xx or [xxx].
std::string_view escape_name(std::string_view text, std::size_t& pos) {
  if (pos >= text.size()) return {};
  std::size_t begin = pos, length = char_bytes(text, pos);
  if (text[pos] == '(') {
    begin = pos + 1;
    length = char_bytes(text, begin);
    length += char_bytes(text, begin + length);
    pos = begin + length;
  } else if (text[pos] == '[') {
    begin = pos + 1;
    const std::size_t end = text.find(']', begin);
    length = (end == text.npos ? text.size() : end) - begin;
    pos = begin + length + 1;
  } else {
    pos += length;
  }
  pos = std::min(pos, text.size());
  return begin < text.size() ? text.substr(begin, length) : std::string_view();
}

// Skips an argument between two equal delimiters, as in \h'1m'.
void skip_quoted(std::string_view text, std::size_t& pos) {
  if (pos >= text.size()) return;
  const std::string_view delimiter = text.substr(pos, char_bytes(text, pos));
  const std::size_t end = text.find(delimiter, pos + delimiter.size());
  pos = end == text.npos ? text.size() : end + delimiter.size();
}

void skip_size(std::string_view text, std::size_t& pos) {
  if (pos < text.size() && (text[pos] == '+' || text[pos] == '-')) ++pos;
  if (pos < text.size() && (text[pos] == '(' || text[pos] == '[')) {
    escape_name(text, pos);
  } else if (pos < text.size() && text[pos] == '\'') {
    skip_quoted(text, pos);
  } else if (pos < text.size() && std::isdigit(static_cast<unsigned char>(text[pos]))) {
    ++pos;
  }
}

// Text with its escapes resolved. `continues` is set by \c: the line runs on without a space.
std::string resolve_escapes(std::string_view text, bool* continues = nullptr) {
  std::string out;
  for (std::size_t pos = 0; pos < text.size();) {
    if (text[pos] != '\\') {
      out += text[pos++];
      continue;
    }
    if (++pos == text.size()) break;
    const char kind = text[pos++];
    switch (kind) {
      case '"':
      case '#':
        return out;  // a comment
      case '-':
        out += '-';
        break;
      case 'e':
      case 'E':
      case '\\':
        out += '\\';
        break;
      case '\'':
        out += "´";
        break;
      case '`':
      case '.':
        out += kind;
        break;
      case '~':
      case ' ':
      case '0':
        out += ' ';
        break;
      case 't':
        out += '\t';
        break;
      case '(':
      case '[':
        --pos;
        out += special_character(escape_name(text, pos));
        break;
      case '*':
        out += special_character(escape_name(text, pos));
        break;
      case 'c':
        if (continues) *continues = true;
        break;
      case 'f':
      case 'F':
      case 'g':
      case 'k':
      case 'm':
      case 'M':
      case 'n':
      case 'V':
      case 'Y':
        if (kind == 'n' && pos < text.size() && (text[pos] == '+' || text[pos] == '-')) ++pos;
        escape_name(text, pos);
        break;
      case 's':
        skip_size(text, pos);
        break;
      case 'N': {  // \N'65': a character by its number
        const std::size_t begin = pos;
        skip_quoted(text, pos);
        int code = 0;
        for (const char digit : text.substr(begin, pos - begin)) {
          if (std::isdigit(static_cast<unsigned char>(digit))) code = std::min(code * 10 + digit - '0', 128);
        }
        if (code >= 0x20 && code < 0x7F) out += static_cast<char>(code);
        break;
      }
      case 'A':
      case 'b':
      case 'B':
      case 'C':
      case 'D':
      case 'h':
      case 'H':
      case 'l':
      case 'L':
      case 'o':
      case 'R':
      case 'S':
      case 'v':
      case 'w':
      case 'x':
      case 'X':
      case 'Z':
        skip_quoted(text, pos);
        break;
      default:
        // \& \| \^ \/ \, \) \: \% \{ \} \z and the like: no output. A character beyond ASCII stands for itself.
        if (static_cast<unsigned char>(kind) >= 0x80) out += kind;
    }
  }
  return out;
}

// The words after a request; "..." holds a word with spaces, "" within it is a quote.
std::vector<std::string> arguments(std::string_view text) {
  std::vector<std::string> out;
  for (std::size_t pos = 0;;) {
    while (pos < text.size() && (text[pos] == ' ' || text[pos] == '\t')) ++pos;
    if (pos == text.size() || text.substr(pos, 2) == "\\\"") break;
    std::string word;
    if (text[pos] == '"') {
      for (++pos; pos < text.size(); ++pos) {
        if (text[pos] == '"' && (pos + 1 == text.size() || text[++pos] != '"')) break;
        word += text[pos];
      }
    } else {
      while (pos < text.size() && text[pos] != ' ' && text[pos] != '\t') {
        if (text[pos] == '\\' && pos + 1 < text.size()) word += text[pos++];  // "\ " doesn't end a word
        word += text[pos++];
      }
    }
    out.push_back(std::move(word));
  }
  return out;
}

std::string joined(const std::vector<std::string>& words, std::string_view separator) {
  std::string out;
  for (const std::string& word : words) {
    if (!out.empty()) out += separator;
    out += word;
  }
  return out;
}

template <class... Names>
bool any_of(std::string_view name, Names... names) {
  return ((name == names) || ...);
}

class Formatter {
 public:
  std::string run(std::string_view roff) {
    while (!roff.empty()) {
      const std::size_t end = std::min(roff.find('\n'), roff.size());
      std::string_view line = roff.substr(0, end);
      roff.remove_prefix(std::min(end + 1, roff.size()));
      if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
      // An odd backslash at the end joins the next line.
      const std::size_t slashes = line.size() - (line.find_last_not_of('\\') + 1);
      held_ += line;
      if (slashes % 2 == 1 && !roff.empty()) {
        held_.pop_back();
        continue;
      }
      const std::string whole = std::exchange(held_, {});
      take(whole);
    }
    return out_.finish();
  }

 private:
  void take(std::string_view line) {
    if (!skip_until_.empty()) {  // inside .de or .ig
      if (line.starts_with('.') && joined(arguments(line.substr(1)), " ") == skip_until_) skip_until_.clear();
      return;
    }
    if (skipped_braces_ > 0) {
      count_braces(line);
      return;
    }
    if (in_table_) return table_line(line);
    while (line.ends_with("\\}")) line.remove_suffix(2);  // the end of a kept conditional block
    if (!line.empty() && (line[0] == '.' || line[0] == '\'')) {
      std::string_view rest = line.substr(1);
      while (!rest.empty() && (rest[0] == ' ' || rest[0] == '\t')) rest.remove_prefix(1);
      std::size_t length = 0;
      while (length < rest.size() && rest[length] != ' ' && rest[length] != '\t' && rest[length] != '\\') ++length;
      return request(rest.substr(0, length), rest.substr(length));
    }
    text_line(line);
  }

  void count_braces(std::string_view line) {
    for (std::size_t pos = 0; pos + 1 < line.size(); ++pos) {
      if (line[pos] != '\\') continue;
      if (line[pos + 1] == '{') ++skipped_braces_;
      if (line[pos + 1] == '}') --skipped_braces_;
      ++pos;
    }
    skipped_braces_ = std::max(skipped_braces_, 0);
  }

  void text_line(std::string_view line) {
    if (line.find_first_not_of(" \t") == line.npos) {
      if (!verbatim_) out_.break_block();
      if (verbatim_) out_.break_line();
      return;
    }
    // A line that starts with a space begins a new one.
    if (!verbatim_ && line[0] == ' ') out_.break_line();
    emit(line);
  }

  void emit(std::string_view raw) {
    bool continues = false;
    const std::string text = resolve_escapes(raw, &continues);
    if (verbatim_) {
      out_.add_verbatim(text);
      if (!continues) out_.break_line();
    } else {
      out_.add(text);
      if (!continues) out_.add("\n");
    }
    if (break_after_text_) {
      if (!verbatim_) out_.break_line();
      break_after_text_ = false;
    }
  }

  void heading(const std::vector<std::string>& words) {
    out_.break_block();
    if (words.empty()) {
      break_after_text_ = true;  // the next line is the heading
      return;
    }
    emit(joined(words, " "));
    out_.break_line();
  }

  void request(std::string_view name, std::string_view rest) {
    if (name.empty() || name[0] == '"') return;
    if (any_of(name, "if", "ie", "while")) return conditional(rest);
    if (name == "el") return last_condition_ ? skip_branch(rest) : branch(rest);
    if (any_of(name, "de", "de1", "am", "ig")) {
      const std::vector<std::string> words = arguments(rest);
      const std::size_t end = name == "ig" ? 0 : 1;
      skip_until_ = words.size() > end ? words[end] : ".";
      return;
    }
    const std::vector<std::string> words = arguments(rest);
    if (any_of(name, "SH", "SS", "Sh", "Ss")) return heading(words);
    if (any_of(name, "PP", "P", "LP", "HP", "Pp", "Bl", "El")) return out_.break_block();
    if (any_of(name, "RS", "RE", "br", "sp", "ti", "in", "ce", "Bd", "Ed", "Lp")) {
      if (any_of(name, "Bd", "Ed"))
        verbatim_ = name == "Bd" && any_of(words.empty() ? "" : words[0], "-literal", "-unfilled");
      return name == "sp" ? out_.break_block() : out_.break_line();
    }
    if (name == "TP" || name == "TQ") {
      out_.break_line();
      break_after_text_ = true;
      return;
    }
    if (name == "IP" || name == "It") {
      out_.break_line();
      if (!words.empty()) emit(name == "IP" ? words[0] : mdoc(words));
      return;
    }
    if (any_of(name, "nf", "EX", "fi", "EE")) {
      out_.break_line();
      verbatim_ = any_of(name, "nf", "EX");
      return;
    }
    if (name == "TS") {
      out_.break_line();
      in_table_ = table_format_ = true;
      return;
    }
    if (any_of(name, "B", "I", "SM", "SB", "R", "UR", "MT", "SY", "OP", "CW")) {
      if (!words.empty()) emit(joined(words, " "));
      return;
    }
    if (any_of(name, "BR", "BI", "RB", "RI", "IB", "IR")) return emit(joined(words, ""));
    if (name == "UE" || name == "ME") {
      if (!words.empty()) emit(words[0]);
      return;
    }
    // mdoc's inline macros: two letters, the first a capital. Titles and dates carry no text of the page.
    if (name.size() == 2 && std::isupper(static_cast<unsigned char>(name[0])) &&
        std::islower(static_cast<unsigned char>(name[1])) && !any_of(name, "Dd", "Dt", "Os", "Sm", "Tn", "Bk", "Ek")) {
      std::vector<std::string> all{std::string(name)};
      all.insert(all.end(), words.begin(), words.end());
      const std::string text = mdoc(all);
      if (!text.empty()) emit(text);
    }
    // Everything else (.TH, .ds, .nr, .ft, .so, ...) sets something and prints nothing.
  }

  // mdoc macros within a line: flags get their dash, quotes their marks, other macro names vanish.
  std::string mdoc(const std::vector<std::string>& words) {
    std::vector<std::string> out;
    std::string closing;
    for (const std::string& word : words) {
      if (word == "Nm" && words.size() == 1) {
        out.push_back(name_);
      } else if (any_of(word, "Op", "Bq")) {
        out.push_back("[");
        closing = "]" + closing;
      } else if (any_of(word, "Pq")) {
        out.push_back("(");
        closing = ")" + closing;
      } else if (any_of(word, "Dq", "Qq")) {
        out.push_back("“");
        closing = "”" + closing;
      } else if (word == "Fl") {
        out.push_back("-");
      } else if (any_of(word, "Nm", "Ar", "Cm", "Pa", "Ev", "Em", "Sy", "Li", "Va", "Vt", "Fn", "Fa", "Ft", "Xr", "Nd",
                        "Ic", "Dv", "Er", "Ad", "An", "Aq", "St", "Ux", "Bx", "Fx", "Ns", "No", "Xo", "Xc", "Oo", "Oc",
                        "Sq", "Ql", "In", "Cd", "Mt", "Lk", "Rv", "Ex", "Rs", "Re", "Tn")) {
        if (word == "Nd") out.push_back("- ");
      } else {
        if (!words.empty() && words[0] == "Nm" && name_.empty()) name_ = word;
        const bool tight =
            out.empty() || any_of(out.back(), "[", "(", "“", "-", "- ") || any_of(word, ",", ".", ";", ":", ")", "]");
        out.push_back(tight ? word : " " + word);
      }
    }
    return joined(out, "") + closing;
  }

  void conditional(std::string_view rest) {
    while (!rest.empty() && rest[0] == ' ') rest.remove_prefix(1);
    // Only n (a terminal) and !t are known to hold. Comparisons guard macro set-up in practice.
    const std::size_t length = rest.starts_with("!t") ? 2 : char_bytes(rest, 0);
    last_condition_ = rest.starts_with("!t") || rest.starts_with("n ") || rest.starts_with("n\\{");
    rest.remove_prefix(std::min(length, rest.size()));
    last_condition_ ? branch(rest) : skip_branch(rest);
  }

  void branch(std::string_view rest) {
    while (!rest.empty() && rest[0] == ' ') rest.remove_prefix(1);
    if (rest.starts_with("\\{")) rest.remove_prefix(2);
    while (!rest.empty() && rest[0] == ' ') rest.remove_prefix(1);
    if (!rest.empty()) take(rest);
  }

  void skip_branch(std::string_view rest) { count_braces(rest); }

  void table_line(std::string_view line) {
    if (line.starts_with(".TE")) {
      in_table_ = false;
      return;
    }
    if (table_format_) {  // options end in ';', formats in '.'
      const std::size_t last = line.find_last_not_of(" \t");
      if (last != line.npos && line[last] == '.') table_format_ = false;
      const std::size_t tab = line.find("tab(");
      if (char_bytes(line, tab == line.npos ? tab : tab + 4) == 1) table_tab_ = line[tab + 4];
      return;
    }
    if (line.starts_with(".T&")) table_format_ = true;
    if (line.starts_with('.') || line == "_" || line == "=") return;
    std::string row(line);
    if (row.starts_with("T}")) {
      row.erase(0, 2);
      in_cell_ = false;
    }
    if (row.ends_with("T{")) {
      row.erase(row.size() - 2);
      in_cell_ = true;
    }
    for (char& c : row) {
      if (c == table_tab_) c = ' ';
    }
    out_.add(resolve_escapes(row));
    if (in_cell_) {
      out_.add("\n");
    } else {
      out_.break_line();
    }
  }

  LineFiller out_;
  std::string held_;        // lines joined by a backslash
  std::string skip_until_;  // the request that ends a definition
  std::string name_;        // mdoc's .Nm
  int skipped_braces_ = 0;
  bool last_condition_ = false;
  bool verbatim_ = false;
  bool break_after_text_ = false;
  bool in_table_ = false, table_format_ = false, in_cell_ = false;
  char table_tab_ = '\t';
};

}  // namespace

std::string roff_to_text(std::string_view roff) {
  return Formatter().run(roff);
}

}  // namespace dujiang::data
