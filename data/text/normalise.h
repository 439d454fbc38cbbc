#pragma once
// Cleaning that leaves Chinese text as it was written: never NFKC or NFC (they change ，：；？！（） and the
// compatibility ideographs at U+F900), never Chinese punctuation into ASCII.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace dujiang::data {

/// What normalise() does. Unassigned and private-use code points, variation selectors and U+200D within an emoji
/// sequence stay.
struct NormaliseConfig {
  bool terminal = true;     // ANSI escapes, overstrikes (the character before a backspace) go
  bool line_ends = true;    // CRLF, CR, VT, FF, NEL, U+2028, U+2029 become '\n'
  bool controls = true;     // other C0 and C1 controls (not tab), NUL, DEL, noncharacters, U+FFF9 to U+FFFC go
  bool invisible = true;    // BOM, zero-width characters, soft hyphens, bidi marks, tags go
  bool spaces = true;       // U+3000, U+00A0 and spaces of other widths become ' '
  bool full_width = true;   // full-width ASCII letters and digits, and nothing else of that block, become ASCII
  bool gb_private = true;   // the 24 private-use code points of GB 18030 before 2022 become the characters meant
  bool entities = true;     // HTML entities with their semicolon, once: "&amp;lt;" becomes "&lt;"
  int punctuation_run = 3;  // longest run of one mark such as ！ ? 。 ~ (0: any length)
  int ruler_run = 8;        // longest run of one sign that also draws lines: - = _ * # . … — ─ (0: any length)
  bool trailing_blanks = true;  // at the ends of lines
  int blank_lines = 1;          // longest run of them between lines, none at both ends (-1: any, everywhere)
  bool operator==(const NormaliseConfig&) const = default;
};

/// Every rule off.
inline constexpr NormaliseConfig as_it_is{false, false, false, false, false, false, false, false, 0, 0, false, -1};

enum class NormaliseRule : std::uint8_t {
  terminal,
  line_ends,
  controls,
  invisible,
  spaces,
  full_width,
  gb_private,
  entities,
  punctuation_run,
  trailing_blanks,
  blank_lines,
};
inline constexpr std::array<std::string_view, 11> normalise_rules{
    "terminal",   "line_ends", "controls",        "invisible",       "spaces",     "full_width",
    "gb_private", "entities",  "punctuation_run", "trailing_blanks", "blank_lines"};

/// What the rules did: places, and bytes by which the text became shorter (negative: longer).
struct NormaliseReport {
  struct Rule {
    std::int64_t hits = 0, bytes = 0;
  };
  std::array<Rule, normalise_rules.size()> rules{};

  Rule& operator[](NormaliseRule rule) { return rules[static_cast<std::size_t>(rule)]; }
  void took(NormaliseRule rule, std::int64_t bytes) {
    ++(*this)[rule].hits;
    (*this)[rule].bytes += bytes;
  }
};

/// The text after the rules, and `report` grown by what they did: text.size() less all bytes of this call is the
/// result's size. Applied twice it changes nothing more, entities aside. `text` is valid UTF-8, and so is the result.
std::string normalise(std::string_view text, const NormaliseConfig& config, NormaliseReport& report);

/// Drops terminal codes: ANSI escape sequences (ECMA-48), and the character before each backspace, as in overstruck
/// bold and underline.
std::string strip_terminal_codes(std::string_view text);

}  // namespace dujiang::data
