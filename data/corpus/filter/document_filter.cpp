#include "data/corpus/filter/document_filter.h"

#include <algorithm>

#include "data/text/char_class.h"
#include "data/text/utf8.h"

namespace dujiang::data {
namespace {

struct Line {
  std::int64_t visible = 0, han = 0, code = 0;
  char32_t first = 0;  // visible character
  bool ended = false;  // by a sentence's end or what may stand behind one
};

// Few Han, and one in twelve of the characters a sign that programs are full of.
bool is_code(const Line& line) {
  return line.visible >= 3 && line.han * 10 <= line.visible && line.code * 12 >= line.visible;
}

}  // namespace

DocumentFigures document_figures(std::string_view text) {
  const auto& classes = CharClasses::get();
  DocumentFigures figures;
  char fence = 0;  // of the block that is open: '`' or '~'
  for (std::size_t pos = 0; pos < text.size();) {
    const std::size_t begin = pos;
    Line line;
    bool in_word = false;
    while (pos < text.size() && text[pos] != '\n') {
      const char32_t c = next_char(text, pos);
      const std::uint8_t bits = classes[c];
      const bool visible = !(bits & CharClass::space), word = bits & CharClass::word;
      line.visible += visible;
      line.han += bits & CharClass::han;
      line.code += bits >> 7;
      figures.letters += bits >> 1 & 1;
      figures.units += visible && !(word && in_word);
      in_word = word;
      // A closing mark keeps what the line had come to, anything else visible sets it.
      if (visible && !(bits & CharClass::closing)) line.ended = bits & CharClass::sentence_end;
    }
    if (pos < text.size()) ++pos, ++figures.newlines;
    if (line.visible == 0) continue;
    ++figures.lines;
    figures.visible += line.visible;
    figures.han += line.han;
    figures.ended_lines += line.ended;
    const std::string_view whole = text.substr(begin, pos - begin);
    const std::size_t indent = whole.find_first_not_of(" \t");
    const std::string_view mark = whole.substr(std::min(indent, whole.size()), 3);
    const bool is_fence = (mark == "```" || mark == "~~~") && (fence == 0 || fence == mark[0]);
    if (fence != 0 || is_fence || is_code(line)) figures.code += line.visible;
    if (is_fence) fence = fence == 0 ? mark[0] : 0;
  }
  return figures;
}

DocumentFilter::DocumentFilter(std::span<const FilterProfile> profiles) {
  for (const auto& profile : profiles) rules_.push_back(profile.document);
}

std::optional<Rejection> DocumentFilter::apply(TextDocument& document, Tally&) const {
  const DocumentRules& rules = rules_.at(document.source);
  const DocumentFigures figures = document_figures(document.text);
  const auto share = [](std::int64_t part, std::int64_t whole) {
    return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
  };
  std::optional<Rejection> why;
  const auto at_least = [&](const char* rule, double value, double limit) {
    if (!why && value < limit) why = Rejection{rule, value, limit};
  };
  const auto at_most = [&](const char* rule, double value, double limit) {
    if (!why && value > limit) why = Rejection{rule, value, limit};
  };
  // A document of nothing is short whatever the limit.
  at_least("short_document", static_cast<double>(figures.visible), std::max(rules.min_chars, 1.0));
  at_most("long_document", static_cast<double>(figures.visible), rules.max_chars);
  at_most("mostly_code", share(figures.code, figures.visible), rules.max_code);
  at_least("han_share", share(figures.han, figures.visible), rules.min_han_share);
  at_most("non_alphabetic", 1 - share(figures.letters, figures.visible), rules.max_non_alphabetic);
  at_least("short_lines", share(figures.visible, figures.lines), rules.min_mean_line);
  at_least("ended_lines", share(figures.ended_lines, figures.lines), rules.min_ended_lines);
  at_most("newlines", share(figures.newlines, figures.units), rules.max_newlines);
  return why;
}

}  // namespace dujiang::data
