#include "data/corpus/filter/document_filter.h"

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "data/corpus/read/input.h"
#include "tests/data/filter_cases.h"
#include "tests/support/messages.h"

using namespace dujiang::data;
using namespace dujiang::test;

namespace {

Outcome judge(const DocumentRules& rules, std::string text) {
  FilterProfile profile = all_off();
  profile.document = rules;
  return run<DocumentFilter>(profile, std::move(text));
}

}  // namespace

BOOST_AUTO_TEST_CASE(figures_are_those_of_the_text) {
  const DocumentFigures figures = document_figures("  都江堰，建于 256 BC。\n\n“好！”他说\nabc123 def:\n");
  BOOST_TEST(figures.visible == 12 + 6 + 10);
  BOOST_TEST(figures.han == 5 + 3);
  BOOST_TEST(figures.letters == 5 + 2 + 3 + 6);
  BOOST_TEST(figures.units == 9 + 6 + 3);
  BOOST_TEST(figures.newlines == 4);
  BOOST_TEST(figures.lines == 3);
  BOOST_TEST(figures.ended_lines == 1);
}

BOOST_AUTO_TEST_CASE(closing_marks_may_stand_behind_a_sentences_end) {
  for (const char* line : {"他说：“好。”", "好！）", "好。 ", "Yes.\"", "好……", "好；", "（《好。》）"}) {
    BOOST_TEST(document_figures(line).ended_lines == 1, line);
  }
  for (const char* line : {"好", "好，", "（好）", "“好”", "好。好", "、"}) {
    BOOST_TEST(document_figures(line).ended_lines == 0, line);
  }
}

BOOST_AUTO_TEST_CASE(each_limit_separates_what_is_on_its_sides) {
  const DocumentRules none = all_off().document;
  struct Case {
    const char* rule;
    DocumentRules rules;
    std::string good, bad;
  };
  const auto with = [&](auto field, double limit) {
    DocumentRules rules = none;
    rules.*field = limit;
    return rules;
  };
  const std::vector<Case> cases{
      {"short_document", with(&DocumentRules::min_chars, 200), han(200), han(199) + "  \n\n　"},
      {"long_document", with(&DocumentRules::max_chars, 200), han(200) + "\n  ", han(201)},
      {"short_lines", with(&DocumentRules::min_mean_line, 10), han(12) + "\n\n" + han(8) + "\n",
       han(11) + "\n" + han(8)},
      {"han_share", with(&DocumentRules::min_han_share, 0.3), han(3) + " abcdefg", han(3) + "abcdefgh"},
      {"ended_lines", with(&DocumentRules::min_ended_lines, 0.2), times(4, han(3) + "\n") + "好。",
       times(5, han(3) + "\n") + "好。"},
      {"newlines", with(&DocumentRules::max_newlines, 0.25), times(4, han(4) + "\n"), times(4, han(4) + "\n") + "\n"},
      {"non_alphabetic", with(&DocumentRules::max_non_alphabetic, 0.7), han(3) + "，。1234%", han(2) + "，。1234%"},
      {"mostly_code", with(&DocumentRules::max_code, 0.5), han(10) + "\nx=f(a,b);\n", han(8) + "\nx=f(a,b);\n"},
      {"mostly_code", with(&DocumentRules::max_code, 0.5), han(14) + "\n```\n" + han(8) + "\n```",
       han(13) + "\n```\n" + han(8) + "\n```"},
      {"mostly_code", with(&DocumentRules::max_code, 0.5), "~~~\n```\n" + han(8) + "\n~~~\n" + han(17),
       "~~~\n```\n" + han(8) + "\n~~~\n" + han(16)},
  };
  for (const auto& [rule, rules, good, bad] : cases) {
    BOOST_TEST(judge(rules, good).rule() == "", rule << ": " << good);
    BOOST_TEST(judge(rules, bad).rule() == rule, rule << ": " << bad);
    BOOST_TEST(judge(none, bad).rule() == "", rule);
  }
  // Nothing at all is no document, whatever the limits.
  BOOST_TEST(judge(none, "").rule() == "short_document");
  BOOST_TEST(judge(none, " \n").rule() == "short_document");
  const Outcome outcome = judge(cases[3].rules, cases[3].bad);
  BOOST_TEST(outcome.why->value == 3.0 / 11);
  BOOST_TEST(outcome.why->limit == 0.3);
}

BOOST_AUTO_TEST_CASE(english_is_no_code_and_programs_are) {
  const auto code = [](std::string line) { return document_figures(line).code > 0; };
  for (const char* line : {"for (int i = 0; i < n; ++i) {", "x = torch.zeros((2, 3))", "    return a[i];", "}  // end",
                           "SELECT * FROM t WHERE id=1;", "import os; os.path.join(\"a\", 'b')"}) {
    BOOST_TEST(code(line), line);
  }
  for (const char* line : {"The dam was built by Li Bing.", "都江堰（Dujiangyan）在成都。", "# 第一章", "| 表 | 头 |",
                           "2020-01-01", "f(x) 是一个函数，见上文的定义"}) {
    BOOST_TEST(!code(line), line);
  }
}

BOOST_AUTO_TEST_CASE(a_source_is_judged_by_its_own_profile) {
  FilterProfile lax = all_off(), strict = all_off();
  strict.document.min_chars = 10;
  const std::vector<FilterProfile> profiles{lax, strict};
  const DocumentFilter filter(profiles);
  Tally tally;
  TextDocument document;
  document.text = han(5);
  BOOST_TEST(!filter.apply(document, tally));
  document.source = 1;
  BOOST_TEST(filter.apply(document, tally)->rule == "short_document");
}

BOOST_AUTO_TEST_CASE(every_genre_has_a_sound_profile_and_limits_are_checked) {
  for (const Genre genre : all_genres) check(profile_of(genre), name_of(genre));
  check(all_off(), "off");
  const auto refused = [](auto change) {
    FilterProfile profile;
    change(profile);
    return message_of([&] { check(profile, "source a"); });
  };
  BOOST_TEST(contains(refused([](auto& p) { p.document.max_code = 1.5; }),
                      "source a: max_code must lie in [0, 1], found 1.5"));
  BOOST_TEST(contains(refused([](auto& p) { p.document.min_chars = -1; }), "min_chars"));
  BOOST_TEST(
      contains(refused([](auto& p) { p.lines.max_garble = std::numeric_limits<double>::quiet_NaN(); }), "max_garble"));
  BOOST_TEST(contains(refused([](auto& p) { p.repetition.top = {{3, 0.1}, {2, 0.1}}; }), "found 2 after 3"));
  BOOST_TEST(contains(refused([](auto& p) { p.repetition.duplicate = {{1, 0.1}}; }), "from 2 to 64"));
  BOOST_TEST(contains(refused([](auto& p) { p.privacy[0] = Action::drop_line; }), "not by line"));
  BOOST_TEST(contains(refused([](auto& p) { p.lines.phrases = {""}; }), "empty"));
}

// The table of the filters' README, a number for each genre in its order.
BOOST_AUTO_TEST_CASE(genres_have_the_limits_that_their_page_lists) {
  const auto values = [](auto value) {
    std::vector<double> out;
    for (const Genre genre : all_genres) out.push_back(static_cast<double>(value(profile_of(genre))));
    return out;
  };
#define VALUES(member) values([](const FilterProfile& p) { return p.member; })
  using Five = std::vector<double>;
  BOOST_TEST(VALUES(lines.han_lines) == (Five{0, 0, 0, 0, 0}));
  BOOST_TEST(VALUES(lines.min_han) == Five(5, 4));
  BOOST_TEST(VALUES(lines.min_han_share) == Five(5, 0.3));
  BOOST_TEST(VALUES(lines.boilerplate) == (Five{1, 0, 1, 0, 1}));
  BOOST_TEST(VALUES(lines.menus) == (Five{1, 0, 0, 0, 1}));
  BOOST_TEST(VALUES(lines.max_garble) == Five(5, 0.1));
  BOOST_TEST(VALUES(lines.max_private_use) == Five(5, 0.1));
  BOOST_TEST(VALUES(lines.max_lost) == (Five{0.5, 1, 0.5, 0.5, 0.5}));
  BOOST_TEST(VALUES(lines.glyph_descriptions) == (Five{0, 1, 0, 0, 0}));
  BOOST_TEST(VALUES(lines.max_garbled_lines) == Five(5, 0.3));
  BOOST_TEST(VALUES(document.min_chars) == (Five{200, 10, 200, 50, 50}));
  BOOST_TEST(VALUES(document.max_chars) == Five(5, off));
  BOOST_TEST(VALUES(document.min_han_share) == (Five{0.3, 0.6, 0.15, 0, 0.3}));
  BOOST_TEST(VALUES(document.min_mean_line) == (Five{10, 4, 8, 4, 4}));
  BOOST_TEST(VALUES(document.min_ended_lines) == (Five{0.106, 0, 0, 0, 0}));
  BOOST_TEST(VALUES(document.max_newlines) == (Five{0.178, 0.25, 0.25, off, 0.3}));
  BOOST_TEST(VALUES(document.max_non_alphabetic) == (Five{0.735, 0.735, 0.735, 0.8, 0.735}));
  BOOST_TEST(VALUES(document.max_code) == (Five{0.3, 0.3, 0.5, 1, 0.3}));
  BOOST_TEST(VALUES(repetition.max_duplicate_lines) == (Five{0.287, 0.287, 0.5, 0.6, 0.287}));
#undef VALUES
  const std::vector<GramLimit> top{{2, 0.256}, {3, 0.201}, {4, 0.171}}, verse_top{{2, 0.833}, {3, 1.25}, {4, 1.75}},
      modern{{8, 0.198}, {10, 0.182}, {11, 0.167}, {13, 0.154}, {14, 0.14}, {16, 0.127}};
  const std::map<Genre, std::vector<GramLimit>> duplicate{{Genre::modern, modern},
                                                          {Genre::classical, {{5, 0.5}, {10, 0.4}}},
                                                          {Genre::technical, {{16, 0.3}}},
                                                          {Genre::code, {{16, 0.5}}},
                                                          {Genre::dialogue, modern}};
  for (const Genre genre : all_genres) {
    const FilterProfile profile = profile_of(genre);
    BOOST_TEST((profile.repetition.top == (genre == Genre::classical ? verse_top : top)));
    BOOST_TEST((profile.repetition.duplicate == duplicate.at(genre)));
    for (const Action action : profile.privacy) BOOST_TEST((action == Action::mask));
  }
}

// Figures of the file itself, counted by another program.
BOOST_AUTO_TEST_CASE(documents_that_are_mostly_code_are_found) {
  const std::string file = DUJIANG_SHARED_DATA "/prose.jsonl.zst";
  if (!std::filesystem::exists(file)) {
    BOOST_TEST_MESSAGE("skipped: no " << file);
    return;
  }
  LineReader reader(file);
  int documents = 0, mostly_code = 0;
  for (std::string line; reader.next(line); ++documents) {
    const auto figures = document_figures(nlohmann::json::parse(line).at("text").get<std::string>());
    mostly_code += figures.code * 2 > figures.visible;
  }
  BOOST_TEST(documents == 2061);
  BOOST_TEST(mostly_code == 424);
}
