#include "data/corpus/filter/profile.h"

#include <cmath>

#include "framework/base/check.h"

namespace dujiang::data {
namespace {

constexpr std::array<std::string_view, 5> genres{"modern", "classical", "technical", "code", "dialogue"};

// FineWeb-2's limits (configs/cmn_Hani.yml). Its n counts words: a repeated run of 5 to 10 words is one of 8 to 16
// characters, by 1.6 characters a word. For the most frequent n-gram, characters are the stricter reading; kept.
const std::vector<GramLimit> modern_top{{2, 0.256}, {3, 0.201}, {4, 0.171}};
const std::vector<GramLimit> modern_duplicate{{8, 0.198},  {10, 0.182}, {11, 0.167},
                                              {13, 0.154}, {14, 0.14},  {16, 0.127}};

}  // namespace

std::string_view name_of(Genre genre) {
  return genres[static_cast<std::size_t>(genre)];
}

FilterProfile unfiltered() {
  FilterProfile profile;
  profile.lines = {.han_lines = false,
                   .boilerplate = false,
                   .menus = false,
                   .max_garble = 1,
                   .max_private_use = 1,
                   .max_lost = 1,
                   .max_garbled_lines = 1};
  profile.document = {.min_chars = 0,
                      .max_chars = off,
                      .min_mean_line = 0,
                      .min_han_share = 0,
                      .min_ended_lines = 0,
                      .max_newlines = off,
                      .max_non_alphabetic = 1,
                      .max_code = 1};
  profile.repetition = {.max_duplicate_lines = 1};
  profile.privacy.fill(Action::keep);
  profile.min_quality = 0;
  return profile;
}

FilterProfile profile_of(Genre genre) {
  FilterProfile profile;
  auto& [lines, document, repetition, privacy, min_quality] = profile;
  repetition = {.max_duplicate_lines = 0.287, .top = modern_top, .duplicate = modern_duplicate};
  switch (genre) {
    case Genre::modern:
      break;
    case Genre::classical:
      // Poems are short, some of their lines too; refrains are meant.
      lines.boilerplate = lines.menus = false;
      lines.max_lost = 1;
      lines.glyph_descriptions = true;
      document.min_chars = 10;
      document.min_mean_line = 4;
      document.min_han_share = 0.6;
      document.min_ended_lines = 0;
      document.max_newlines = 0.25;
      repetition.top = {{2, 0.833}, {3, 1.25}, {4, 1.75}};
      repetition.duplicate = {{5, 0.5}, {10, 0.4}};
      break;
    case Genre::technical:
      // Headings, lists and tables end in no full stop; names and commands repeat.
      lines.menus = false;
      document.min_mean_line = 8;
      document.min_han_share = 0.15;
      document.min_ended_lines = 0;
      document.max_newlines = 0.25;
      document.max_code = 0.5;
      repetition.max_duplicate_lines = 0.5;
      repetition.duplicate = {{16, 0.3}};
      break;
    case Genre::code:
      lines.boilerplate = lines.menus = false;
      document = {.min_chars = 50,
                  .min_mean_line = 4,
                  .min_han_share = 0,
                  .min_ended_lines = 0,
                  .max_newlines = off,
                  .max_non_alphabetic = 0.8,
                  .max_code = 1};
      repetition.max_duplicate_lines = 0.6;
      repetition.duplicate = {{16, 0.5}};
      break;
    case Genre::dialogue:
      // Turns are short and often end in nothing.
      document.min_chars = 50;
      document.min_mean_line = 4;
      document.min_ended_lines = 0;
      document.max_newlines = 0.3;
      break;
  }
  return profile;
}

void check(const FilterProfile& profile, std::string_view where) {
  const auto& [lines, document, repetition, privacy, min_quality] = profile;
  const auto share = [&](std::string_view field, double value) {
    if (!(value >= 0 && value <= 1)) fail_user("{}: {} must lie in [0, 1], found {}", where, field, value);
  };
  const auto limit = [&](std::string_view field, double value) {
    if (!(value >= 0)) fail_user("{}: {} must not be negative, found {}", where, field, value);
  };
  limit("min_han", lines.min_han);
  share("min_han_share", lines.min_han_share);
  share("max_garble", lines.max_garble);
  share("max_private_use", lines.max_private_use);
  share("max_lost", lines.max_lost);
  share("max_garbled_lines", lines.max_garbled_lines);
  for (const auto& phrase : lines.phrases) {
    if (phrase.empty()) fail_user("{}: a phrase of boilerplate is empty", where);
  }
  limit("min_chars", document.min_chars);
  limit("max_chars", document.max_chars);
  limit("min_mean_line", document.min_mean_line);
  share("min_han_share", document.min_han_share);
  share("min_ended_lines", document.min_ended_lines);
  limit("max_newlines", document.max_newlines);
  share("max_non_alphabetic", document.max_non_alphabetic);
  share("max_code", document.max_code);
  share("max_duplicate_lines", repetition.max_duplicate_lines);
  for (const auto* grams : {&repetition.top, &repetition.duplicate}) {
    int before = 1;
    for (const auto& [n, most] : *grams) {
      if (n <= before || n > 64) {
        fail_user("{}: n-grams are given by n from 2 to 64, ascending; found {} after {}", where, n, before);
      }
      limit("an n-gram's share", most);
      before = n;
    }
  }
  for (const Action action : privacy) {
    if (action == Action::drop_line) fail_user("{}: private data is kept, masked or dropped, not by line", where);
  }
  share("min_quality", min_quality);
}

}  // namespace dujiang::data
