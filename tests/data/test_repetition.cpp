#include "data/corpus/filter/repetition.h"

#include <map>
#include <set>

#include "data/text/char_class.h"
#include "tests/data/filter_cases.h"

using namespace dujiang::data;
using namespace dujiang::test;

namespace {

// The same by strings and trees.
std::vector<std::string> units_of(const std::string& text) {
  std::vector<std::string> units;
  bool joins = false;  // the next may belong to the last unit
  for (std::size_t pos = 0; pos < text.size();) {
    const std::size_t begin = pos;
    const std::uint8_t bits = CharClasses::get()[next_char(text, pos)];
    const std::string c = text.substr(begin, pos - begin);
    if (bits & CharClass::space) {
      joins = false;
      continue;
    }
    const bool word = bits & CharClass::word, han = bits & CharClass::letter && !word;
    std::size_t at = 0;
    const bool last_is_word = joins && (CharClasses::get()[next_char(units.back(), at)] & CharClass::word);
    if (joins && ((word && last_is_word) || (!word && !han && units.back().ends_with(c) && !last_is_word))) {
      units.back() += c;
    } else {
      units.push_back(c);
    }
    joins = !han;
  }
  return units;
}

// A run of one sign is compared by the sign.
std::string key_of(const std::vector<std::string>& units, std::size_t i, int n) {
  std::string key;
  for (int k = 0; k < n; ++k) {
    const std::string& unit = units[i + static_cast<std::size_t>(k)];
    std::size_t end = 0;
    const bool word = CharClasses::get()[next_char(unit, end)] & CharClass::word;
    key += (word ? unit : unit.substr(0, end)) + '\0';
  }
  return key;
}

RepetitionFigures naive(const std::string& text, std::span<const GramLimit> top, std::span<const GramLimit> duplicate) {
  RepetitionFigures figures;
  std::set<std::string> seen;
  double lines = 0, repeated = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    const std::size_t first = line.find_first_not_of(" \t\r");
    if (first == line.npos) continue;
    ++lines;
    repeated += !seen.insert(line.substr(first, line.find_last_not_of(" \t\r") + 1 - first)).second;
  }
  figures.duplicate_lines = lines == 0 ? 0 : repeated / lines;
  const auto units = units_of(text);
  double all = 0;
  for (const auto& unit : units) all += static_cast<double>(count_chars(unit));
  const auto length = [&](std::size_t i, int n) {
    double sum = 0;
    for (int k = 0; k < n; ++k) sum += static_cast<double>(count_chars(units[i + static_cast<std::size_t>(k)]));
    return sum;
  };
  for (const auto& [n, limit] : top) {
    std::map<std::string, std::pair<int, double>> grams;
    for (std::size_t i = 0; i + static_cast<std::size_t>(n) <= units.size(); ++i) {
      auto& [times, chars] = grams[key_of(units, i, n)];
      ++times;
      chars += length(i, n);
    }
    double most = 0;
    for (const auto& [key, gram] : grams) most = std::max(most, gram.first > 1 ? gram.second : 0);
    figures.top.push_back(all == 0 ? 0 : most / all);
  }
  for (const auto& [n, limit] : duplicate) {
    std::set<std::string> met;
    double sum = 0;
    for (std::size_t i = 0; i + static_cast<std::size_t>(n) <= units.size();) {
      if (met.insert(key_of(units, i, n)).second) {
        ++i;
      } else {
        sum += length(i, n);
        i += static_cast<std::size_t>(n);
      }
    }
    figures.duplicate.push_back(all == 0 ? 0 : sum / all);
  }
  return figures;
}

const std::vector<GramLimit> top{{2, 0}, {3, 0}, {4, 0}, {7, 0}}, duplicate{{3, 0}, {5, 0}, {6, 0}, {10, 0}, {16, 0}};

}  // namespace

BOOST_AUTO_TEST_CASE(figures_are_those_of_a_naive_count) {
  Random random(2);
  const std::vector<std::string> pieces{"都",  "江", "堰", "水", "的", "𠀀", "，", "。", "-",
                                        "abc", "x",  "12", " ",  "\n", "\n", "　", "é",  "あ"};
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    const int kinds = 1 + draw(random, static_cast<int>(pieces.size())), length = draw(random, 200);
    for (int i = 0; i < length; ++i) {
      text += pieces[static_cast<std::size_t>(draw(random, kinds))];
      // A repeat of something earlier, so that long n-grams occur twice.
      if (draw(random, 20) == 0 && text.size() > 30 && text.size() < 5000) text += text.substr(0, text.find('\n'));
    }
    if (utf8_valid_prefix(text) != text.size()) continue;
    const auto expected = naive(text, top, duplicate), found = repetition_figures(text, top, duplicate);
    BOOST_TEST_CONTEXT(text) {
      BOOST_TEST(found.duplicate_lines == expected.duplicate_lines);
      BOOST_TEST(found.top == expected.top, boost::test_tools::per_element());
      BOOST_TEST(found.duplicate == expected.duplicate, boost::test_tools::per_element());
    }
  }
}

BOOST_AUTO_TEST_CASE(known_figures) {
  const std::vector<GramLimit> two{{2, 0}}, five{{5, 0}};
  // Twenty characters, of which the pair stands three times.
  BOOST_TEST(repetition_figures("都江" + han(7) + "都江" + han(7, 100) + "都江", two, {}).top[0] == 6.0 / 20);
  // Once is no repetition.
  BOOST_TEST(repetition_figures(han(4), two, {}).top[0] == 0);
  BOOST_TEST(repetition_figures(han(5) + "。" + han(5), {}, five).duplicate[0] == 5.0 / 11);
  BOOST_TEST(repetition_figures(han(5) + "。" + han(4) + "水", {}, five).duplicate[0] == 0);
  // A rule across the page is one sign, English goes by words.
  BOOST_TEST(repetition_figures(std::string(40, '-') + han(40), two, {}).top[0] == 0);
  BOOST_TEST(repetition_figures("aaaa bbbb aaaa bbbb", two, {}).top[0] == 1);
  BOOST_TEST(repetition_figures("甲\n乙\n 甲\n\n甲\t\n", {}, {}).duplicate_lines == 0.5);
  BOOST_TEST(repetition_figures("", two, five).top[0] == 0);
}

BOOST_AUTO_TEST_CASE(each_limit_separates_what_is_on_its_sides) {
  FilterProfile profile = all_off();
  const auto rule = [&](const std::string& text) { return run<RepetitionFilter>(profile, text).rule(); };
  const std::string pairs = "都江" + han(7) + "都江" + han(7, 100) + "都江", fives = han(5) + "。" + han(5);
  profile.repetition.top = {{2, 0.3}};
  BOOST_TEST(rule(pairs) == "");
  profile.repetition.top = {{2, 0.29}};
  BOOST_TEST(rule(pairs) == "top_2_gram");
  profile.repetition.top = {};
  profile.repetition.duplicate = {{5, 0.46}};
  BOOST_TEST(rule(fives) == "");
  profile.repetition.duplicate = {{4, 0.5}, {5, 0.45}};
  BOOST_TEST(rule(fives) == "duplicate_5_gram");
  profile.repetition.duplicate = {};
  profile.repetition.max_duplicate_lines = 0.25;
  BOOST_TEST(rule("甲\n乙\n丙\n甲") == "");
  BOOST_TEST(rule("甲\n乙\n甲") == "duplicate_lines");
}

BOOST_AUTO_TEST_CASE(modern_text_is_held_to_the_figures_of_fineweb_2) {
  const RepetitionRules rules = profile_of(Genre::modern).repetition;
  BOOST_TEST(rules.max_duplicate_lines == 0.287);
  BOOST_TEST((rules.top == std::vector<GramLimit>{{2, 0.256}, {3, 0.201}, {4, 0.171}}));
  std::vector<double> limits;
  for (const auto& [n, limit] : rules.duplicate) limits.push_back(limit);
  BOOST_TEST(limits == (std::vector<double>{0.198, 0.182, 0.167, 0.154, 0.14, 0.127}),
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(long_documents_cost_no_more_by_the_character) {
  // One character a million times over: every n-gram is the same one, and none is compared with the others.
  const std::string text = times(1 << 18, "水江水水");
  BOOST_TEST(repetition_figures(text, top, duplicate).duplicate[0] > 0.99);
  // Of what is longer than 2 MiB, no more is looked at.
  const std::string start = han(20000) + "\n", rest = times(33, han(20000) + "，") + "\n";
  BOOST_TEST(repetition_figures(start + rest + "水\n水\n水\n", {}, {}).duplicate_lines == 0.4);
  BOOST_TEST(repetition_figures(start + rest + start + "水\n水\n水\n", {}, {}).duplicate_lines == 0);
}
