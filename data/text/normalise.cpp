#include "data/text/normalise.h"

#include <unicode/uchar.h>

#include <algorithm>
#include <utility>

#include "data/text/entity.h"
#include "data/text/utf8.h"

namespace dujiang::data {
namespace {

using Rule = NormaliseRule;

// Marks that end or part sentences, and signs that also draw lines: how long a run of one of them may be differs.
constexpr std::u32string_view marks = U"!?,;~。！？，、；：～";
constexpr std::u32string_view rulers = U"-=_*#+.|…—─━═－＝＿＊＃．·￣";

// GB 18030's private-use code points until 2022, and the characters that they stood for.
constexpr std::pair<char32_t, char32_t> gb_private_use[] = {
    {0xE78D, 0xFE10},  {0xE78E, 0xFE12},  {0xE78F, 0xFE11}, {0xE790, 0xFE13}, {0xE791, 0xFE14},  {0xE792, 0xFE15},
    {0xE793, 0xFE16},  {0xE794, 0xFE17},  {0xE795, 0xFE18}, {0xE796, 0xFE19}, {0xE816, 0x20087}, {0xE817, 0x20089},
    {0xE818, 0x200CC}, {0xE81E, 0x9FB4},  {0xE826, 0x9FB5}, {0xE82B, 0x9FB6}, {0xE82C, 0x9FB7},  {0xE831, 0x215D7},
    {0xE832, 0x9FB8},  {0xE83B, 0x2298F}, {0xE843, 0x9FB9}, {0xE854, 0x9FBA}, {0xE855, 0x241FE}, {0xE864, 0x9FBB}};

bool is_line_end(char32_t c) {
  return c == '\r' || c == '\v' || c == '\f' || c == 0x85 || c == 0x2028 || c == 0x2029;
}

bool is_control(char32_t c) {
  return (c < 0x20 && c != '\n' && c != '\t') || (c >= 0x7F && c < 0xA0) || (c >= 0xFFF9 && c <= 0xFFFC) ||
         (c >= 0xFDD0 && c <= 0xFDEF) || (c & 0xFFFE) == 0xFFFE;
}

bool is_invisible(char32_t c) {
  return c == 0xAD || c == 0x034F || c == 0x061C || c == 0x180E || (c >= 0x200B && c <= 0x200F) ||
         (c >= 0x202A && c <= 0x202E) || (c >= 0x2060 && c <= 0x206F) || c == 0xFEFF || (c >= 0xE0000 && c <= 0xE007F);
}

bool is_other_space(char32_t c) {
  return c == 0x3000 || c == 0xA0 || (c >= 0x2000 && c <= 0x200A) || c == 0x202F || c == 0x205F;
}

bool is_full_width_alphanumeric(char32_t c) {
  return (c >= 0xFF10 && c <= 0xFF19) || (c >= 0xFF21 && c <= 0xFF3A) || (c >= 0xFF41 && c <= 0xFF5A);
}

bool is_pictograph(char32_t c) {
  return u_hasBinaryProperty(static_cast<UChar32>(c), UCHAR_EXTENDED_PICTOGRAPHIC) != 0;
}

// What becomes of a character: nothing whatever the rules (plain), something by one of them (special), or it may stand
// in too long a run (repeats).
enum class Kind : std::uint8_t { plain, repeats, special };

Kind kind_of(char32_t c) {
  if (marks.find(c) != marks.npos || rulers.find(c) != rulers.npos) return Kind::repeats;
  const bool special = c == '\n' || c == '&' || is_line_end(c) || is_control(c) || is_invisible(c) ||
                       is_other_space(c) || is_full_width_alphanumeric(c) || (c >= 0xE78D && c <= 0xE864);
  return special ? Kind::special : Kind::plain;
}

struct Kinds {
  std::array<Kind, 0x10000> of{};
  std::array<std::uint8_t, 256> plain_bytes{};  // by first byte: the length of its characters if all are plain, else 0
  Kinds() {
    for (char32_t c = 0; c < 0x10000; ++c) of[c] = kind_of(c);
    for (char32_t c = 0; c < 0x80; ++c) plain_bytes[c] = of[c] == Kind::plain;
    for (char32_t lead = 0xC2; lead < 0xF0; ++lead) {
      const char32_t first = lead < 0xE0 ? (lead & 0x1F) << 6 : (lead & 0x0F) << 12;
      const char32_t count = lead < 0xE0 ? 0x40 : 0x1000;
      const bool plain = std::all_of(&of[first], &of[first] + count, [](Kind kind) { return kind == Kind::plain; });
      if (plain) plain_bytes[lead] = lead < 0xE0 ? 2 : 3;
    }
  }
};

const Kinds& kinds() {
  static const Kinds kinds;
  return kinds;
}

class Normaliser {
 public:
  Normaliser(std::string_view text, const NormaliseConfig& config, NormaliseReport& report)
      : text_(text), config_(config), report_(report) {}

  std::string run() {
    const Kinds& table = kinds();
    out_.reserve(text_.size());
    std::size_t copied = 0;  // what lies between here and pos_ goes out as it is
    while (pos_ < text_.size()) {
      const std::size_t plain = table.plain_bytes[static_cast<unsigned char>(text_[pos_])];
      if (plain != 0) {
        pos_ += plain;
        continue;
      }
      const std::size_t at = pos_;
      const char32_t c = next_char(text_, pos_);
      const Kind kind = c < 0x10000 ? table.of[c] : kind_of(c);
      if (kind == Kind::plain || stands_alone(c, kind, at, copied)) continue;
      out_.append(text_, copied, at - copied);
      step(c, at);
      copied = pos_;
    }
    out_.append(text_, copied);
    end_text();
    return std::move(out_);
  }

 private:
  // Whether the character at `at` needs no look at what is out already: it isn't a second one, and ends no blanks.
  bool stands_alone(char32_t c, Kind kind, std::size_t at, std::size_t copied) const {
    const std::size_t length = pos_ - at;
    if (at - copied < length) return false;
    if (kind == Kind::repeats) {
      for (std::size_t i = 0; i < length; ++i) {
        if (text_[at + i] != text_[at + i - length]) return true;
      }
      return false;
    }
    if (c == '&') return !config_.entities;
    const char before = text_[at - 1];
    return c == '\n' && before != ' ' && before != '\t' && before != '\n';
  }

  void step(char32_t c, std::size_t at) {
    const Entity entity = c == '&' && config_.entities ? parse_entity(text_.substr(at)) : Entity{};
    if (entity.bytes == 0) {
      put_mapped(c);
      return;
    }
    pos_ = at + entity.bytes;
    report_.took(Rule::entities, static_cast<std::int64_t>(entity.bytes - put_mapped(entity.c)));
  }

  // Puts what the rules for single characters make of c; returns the bytes of c itself.
  std::size_t put_mapped(char32_t c) {
    const std::size_t size = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    const auto becomes = [&](Rule rule, char32_t other, std::size_t other_size) {
      report_.took(rule, static_cast<std::int64_t>(size) - static_cast<std::int64_t>(other_size));
      put(other);
      return size;
    };
    const auto goes = [&](Rule rule) {
      report_.took(rule, static_cast<std::int64_t>(size));
      return size;
    };
    if (c == '\n') return put_newline(), size;
    if (c >= 0x21 && c < 0x7F) return put(c), size;
    if (config_.line_ends && is_line_end(c)) {
      if (c == '\r' && pos_ < text_.size() && text_[pos_] == '\n') return goes(Rule::line_ends);
      report_.took(Rule::line_ends, static_cast<std::int64_t>(size) - 1);
      return put_newline(), size;
    }
    if (config_.controls && is_control(c) && !is_line_end(c)) return goes(Rule::controls);
    if (config_.invisible && is_invisible(c) && !joins_emoji(c)) return goes(Rule::invisible);
    if (config_.spaces && is_other_space(c)) return becomes(Rule::spaces, ' ', 1);
    if (config_.full_width && is_full_width_alphanumeric(c)) return becomes(Rule::full_width, c - 0xFF10 + '0', 1);
    if (config_.gb_private && c >= 0xE78D && c <= 0xE864) {
      for (const auto& [before, now] : gb_private_use) {
        if (before == c) return becomes(Rule::gb_private, now, now < 0x10000 ? 3 : 4);
      }
    }
    put(c);
    return size;
  }

  // U+200D between the parts of an emoji.
  bool joins_emoji(char32_t c) const {
    if (c != 0x200D || pos_ >= text_.size()) return false;
    std::size_t next = pos_, last = out_.size();
    if (!is_pictograph(next_char(text_, next))) return false;
    const auto previous = [&] {
      while (last > 0 && (out_[--last] & 0xC0) == 0x80) {
      }
      std::size_t at = last;
      return at < out_.size() ? next_char(out_, at) : 0;
    };
    char32_t before = previous();
    if (before == 0xFE0F || (before >= 0x1F3FB && before <= 0x1F3FF)) before = previous();
    return is_pictograph(before);
  }

  void put(char32_t c) {
    if (c < 0x80) {
      const char byte = static_cast<char>(c);
      if (!run_is_full(std::string_view(&byte, 1), c)) out_ += byte;
      return;
    }
    const std::size_t at = out_.size();
    append_utf8(out_, c);
    const std::size_t length = out_.size() - at;
    if (at < length || out_.compare(at - length, length, out_, at, length) != 0) return;
    std::string character(out_, at);
    out_.resize(at);
    if (!run_is_full(character, c)) out_ += character;
  }

  // Whether the text ends in as many of this character as there may be; then it is counted as gone.
  bool run_is_full(std::string_view character, char32_t c) {
    if (!out_.ends_with(character)) return false;
    const int most = marks.find(c) != marks.npos     ? config_.punctuation_run
                     : rulers.find(c) != rulers.npos ? config_.ruler_run
                                                     : 0;
    if (most <= 0) return false;
    std::string_view rest = out_;
    for (int i = 0; i < most; ++i) {
      if (!rest.ends_with(character)) return false;
      rest.remove_suffix(character.size());
    }
    report_.took(Rule::punctuation_run, static_cast<std::int64_t>(character.size()));
    return true;
  }

  void trim_line() {
    const std::size_t size = out_.size();
    if (!config_.trailing_blanks || size == 0 || (out_[size - 1] != ' ' && out_[size - 1] != '\t')) return;
    out_.resize(out_.find_last_not_of(" \t") + 1);
    report_.took(Rule::trailing_blanks, static_cast<std::int64_t>(size - out_.size()));
  }

  void put_newline() {
    trim_line();
    const auto most = static_cast<std::size_t>(config_.blank_lines + 1);
    const bool blank =
        out_.empty() || (out_.size() >= most && out_.find_first_not_of('\n', out_.size() - most) == out_.npos);
    if (config_.blank_lines >= 0 && blank) {
      report_.took(Rule::blank_lines, 1);
    } else {
      out_ += '\n';
    }
  }

  void end_text() {
    trim_line();
    if (config_.blank_lines < 0) return;
    const std::size_t size = out_.size();
    while (!out_.empty() && out_.back() == '\n') out_.pop_back();
    const auto gone = static_cast<std::int64_t>(size - out_.size());
    if (gone > 0) report_.took(Rule::blank_lines, gone);
  }

  std::string_view text_;
  const NormaliseConfig& config_;
  NormaliseReport& report_;
  std::string out_;
  std::size_t pos_ = 0;
};

}  // namespace

std::string normalise(std::string_view text, const NormaliseConfig& config, NormaliseReport& report) {
  if (config.terminal && (text.find('\x1B') != text.npos || text.find('\b') != text.npos)) {
    const std::string stripped = strip_terminal_codes(text);
    report.took(Rule::terminal, static_cast<std::int64_t>(text.size() - stripped.size()));
    return Normaliser(stripped, config, report).run();
  }
  return Normaliser(text, config, report).run();
}

}  // namespace dujiang::data
