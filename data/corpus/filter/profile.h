#pragma once
// What a genre may look like: the limits of every rule. README.md of this folder tells where each figure is from.
//
// A limit is off where nothing can pass it: a minimum of 0; a maximum of 1 for a share that can't exceed 1; `off` for
// any other maximum.

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace dujiang::data {

inline constexpr double off = std::numeric_limits<double>::infinity();

enum class Genre : std::uint8_t { modern, classical, technical, code, dialogue };
inline constexpr std::array all_genres{Genre::modern, Genre::classical, Genre::technical, Genre::code, Genre::dialogue};
/// A config's word for it.
std::string_view name_of(Genre genre);

/// Lines that go, and noise that is counted by character. A line with U+FFFD always goes (replacement_character).
/// Shares are of a line's characters that aren't white space.
struct LineRules {
  bool han_lines = false;  // few_han: keep only lines that pass both limits below
  int min_han = 4;         // Han characters
  double min_han_share = 0.3;
  bool boilerplate = true;             // boilerplate: copyright, sharing, paging, sign-in, licence numbers of web pages
  std::vector<std::string> phrases{};  // boilerplate: lines that hold one of these, too
  bool menus = true;                   // menu: rows of short links; page_number: lines that only number a page
  double max_garble = 0.1;       // garbled_line: characters decoded wrongly (garbled_character). A line above goes
  double max_private_use = 0.1;  // private_use_line: likewise (private_use)
  double max_lost = 0.5;  // lost_line: likewise □ and the like (lost_character) and {氵冀} (glyph_description)
  bool glyph_descriptions = false;
  double max_garbled_lines = 0.3;  // garbled: the document goes when more of its bytes went as garble
};

/// Documents that go. "Words" here are units: a Han character or a sign is one, so is a run of letters and digits of
/// other scripts.
struct DocumentRules {
  double min_chars = 200;             // short_document: characters that aren't white space
  double max_chars = off;             // long_document
  double min_mean_line = 10;          // short_lines: such characters per line that isn't blank
  double min_han_share = 0.3;         // han_share: Han, of all characters that aren't white space
  double min_ended_lines = 0.106;     // ended_lines: share of lines that end a sentence
  double max_newlines = 0.178;        // newlines: per unit
  double max_non_alphabetic = 0.735;  // non_alphabetic: neither letter nor Han
  double max_code = 0.3;              // mostly_code: characters in fenced blocks and in lines of code
};

/// A limit for n-grams of n units.
struct GramLimit {
  int n;
  double limit;
  bool operator==(const GramLimit&) const = default;
};

/// Repetition within a document. Shares are of the characters that aren't white space.
struct RepetitionRules {
  double max_duplicate_lines = 0.287;  // duplicate_lines: lines that stood before, of all that aren't blank
  std::vector<GramLimit> top{};        // top_N_gram: what the most frequent takes; n ascending
  std::vector<GramLimit> duplicate{};  // duplicate_N_gram: what those take that stood before; n ascending
};

/// keep: count only. drop: the document.
enum class Action : std::uint8_t { keep, mask, drop_line, drop };

enum class PrivateKind : std::uint8_t { mobile_number, id_number, bank_card, email, ip_address, qq_number };
inline constexpr int private_kinds = 6;
/// Of each kind, by PrivateKind; drop_line isn't one of theirs.
using PrivacyActions = std::array<Action, private_kinds>;

struct FilterProfile {
  LineRules lines{};
  DocumentRules document{};
  RepetitionRules repetition{};
  PrivacyActions privacy{Action::mask, Action::mask, Action::mask, Action::mask, Action::mask, Action::mask};
  double min_quality = 0;  // low_quality: the model's probability of a good document
};

FilterProfile profile_of(Genre genre);
/// Every rule off, and personal data kept: for text that was cleaned before.
FilterProfile unfiltered();

/// A profile's limits, each within its range; UserError naming `where` and the field.
void check(const FilterProfile& profile, std::string_view where);

}  // namespace dujiang::data
