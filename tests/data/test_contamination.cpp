#include "data/corpus/filter/contamination.h"

#include <algorithm>
#include <set>

#include "data/corpus/read/extract.h"
#include "tests/data/filter_cases.h"
#include "tests/support/messages.h"
#include "tests/support/temp_folder.h"

using namespace dujiang::data;
using namespace dujiang::test;

namespace {

Outcome judged(const ContaminationConfig& config, std::string text) {
  return run(
      [&] {
        return std::make_unique<ContaminationFilter>(std::vector{std::make_shared<const ContaminationIndex>(config)},
                                                     config.max_share);
      },
      std::move(text));
}

}  // namespace

BOOST_AUTO_TEST_CASE(thirteen_letters_in_a_row_are_found_and_twelve_are_not) {
  const TempFolder folder;
  const ContaminationConfig config{
      .evaluations = {
          {folder.write("eval.txt", "都江堰位于四川省成都市的哪一个方向？\n\nWhat does ABC-123 def stand for?\n")}}};
  for (const char* text : {"前文都江堰位于四川省成都市的哪后文", "“都江堰”，位于 四川省\n成都市的哪",
                           "what does abc 12", "ＷＨＡＴ does ABC１２", "Xwhat does abc 12"}) {
    BOOST_TEST(judged(config, text).rule() == "contaminated", text);
  }
  for (const char* text :
       {"前文都江堰位于四川省成都市的后文", "都江堰位于四川省成都市之哪一个方向", "what does abc 1", "", "都江堰"}) {
    BOOST_TEST(judged(config, text).rule() == "", text);
  }
  const Outcome outcome = judged(config, "都江堰位于四川省成都市的哪一个");
  BOOST_TEST(outcome.why->detail == folder / "eval.txt" + " line 1: 3 of 5 n-grams");
  BOOST_TEST(outcome.why->value == 0.6);
}

BOOST_AUTO_TEST_CASE(a_share_separates_what_is_on_its_sides) {
  const TempFolder folder;
  ContaminationConfig config{.evaluations = {{folder.write("eval.txt", han(22))}}, .max_share = 0.5};  // ten n-grams
  Outcome outcome = judged(config, han(17));
  BOOST_TEST(outcome.rule() == "");
  BOOST_TEST(outcome.hits("contaminated") == 1);
  BOOST_TEST(judged(config, han(18)).rule() == "contaminated");
  // The same n-gram again is no further one.
  BOOST_TEST(judged(config, times(9, han(17) + "。")).rule() == "");
}

BOOST_AUTO_TEST_CASE(what_many_items_share_is_no_sign) {
  const TempFolder folder;
  const std::string phrase = "下列关于都江堰水利工程的说法中";  // 15
  std::string items;
  for (int i = 0; i < 4; ++i) items += phrase + han(20, 100 * i) + "\n";
  ContaminationConfig config{.evaluations = {{folder.write("eval.txt", items)}}, .max_items = 4};
  BOOST_TEST(judged(config, phrase).rule() == "contaminated");
  config.max_items = 3;
  BOOST_TEST(judged(config, phrase).rule() == "");
  BOOST_TEST(judged(config, phrase + han(20)).rule() == "contaminated");
}

BOOST_AUTO_TEST_CASE(the_index_finds_what_sets_of_strings_find) {
  const TempFolder folder;
  Random random(9);
  for (int round = 0; round < 100; ++round) {
    const int n = 2 + draw(random, 4), letters = 2 + draw(random, 20);
    const auto string = [&](int most) {
      std::string out;
      for (int i = 1 + draw(random, most); i > 0; --i) out += draw(random, 8) ? han(1, draw(random, letters)) : "，";
      return out;
    };
    const auto grams_of = [&](const std::string& text) {
      std::vector<std::string> chars;
      for (std::size_t i = 0; i < text.size(); i += 3) {
        if (text.substr(i, 3) != "，") chars.push_back(text.substr(i, 3));
      }
      std::set<std::string> grams;
      for (std::size_t i = 0; i + static_cast<std::size_t>(n) <= chars.size(); ++i) {
        std::string gram;
        for (int k = 0; k < n; ++k) gram += chars[i + static_cast<std::size_t>(k)];
        grams.insert(gram);
      }
      return grams;
    };
    std::vector<std::string> items;
    std::string file;
    for (int i = 1 + draw(random, 10); i > 0; --i) {
      items.push_back(string(40));
      file += items.back() + "\n";
    }
    file += han(n) + "\n";  // one that is long enough
    items.push_back(han(n));
    const ContaminationIndex index({.evaluations = {{folder.write("eval.txt", file)}}, .n = n, .max_items = 1000});
    const std::string text = string(60);
    std::set<std::tuple<std::uint32_t, std::size_t, std::size_t>> found, expected;
    for (const auto& met : index.find(text)) found.emplace(met.item, met.matched, met.n_grams);
    const auto grams = grams_of(text);
    std::size_t too_short = 0;
    for (std::size_t i = 0; i < items.size(); ++i) {
      const auto of_item = grams_of(items[i]);
      too_short += of_item.empty();
      std::size_t matched = 0;
      for (const auto& gram : of_item) matched += grams.contains(gram);
      if (matched > 0) expected.emplace(static_cast<std::uint32_t>(i + 1), matched, of_item.size());
    }
    BOOST_REQUIRE(found == expected);
    BOOST_REQUIRE(index.files()[0].items == items.size());
    BOOST_REQUIRE(index.files()[0].too_short == too_short);
  }
}

BOOST_AUTO_TEST_CASE(items_of_json_lines_are_made_of_their_fields) {
  const TempFolder folder;
  const std::string file = folder.write("eval.jsonl", "{\"question\":\"" + han(10) + "\",\"A\":\"" + han(10, 50) +
                                                          "\"}\n{\"question\":\"" + han(20, 200) + "\"}\n");
  const ContaminationConfig config{.evaluations = {{file, {"question", "A"}}}};
  BOOST_TEST(judged(config, han(10) + han(3, 50)).rule() == "contaminated");
  BOOST_TEST(judged(config, han(13, 200)).why->detail == file + " line 2: 1 of 8 n-grams");
}

BOOST_AUTO_TEST_CASE(items_that_were_met_are_told_whether_the_document_stays_or_goes) {
  const TempFolder folder;
  const std::string a = folder.write("a.txt", han(22) + "\n" + han(5) + "\n\n" + han(20, 100) + "\n"),
                    b = folder.write("b.txt", han(20, 200) + "\n" + han(13, 300) + "\n");
  ContaminationConfig config{.evaluations = {{a}, {b}}, .max_share = 0.5};
  const Met met = judged(config, han(15) + "。" + han(20, 200)).account.met;
  BOOST_TEST((met == Met{{a, {1}}, {b, {1}}}));
  BOOST_TEST((judged(config, han(13) + "。" + han(13, 100)).account.met == Met{{a, {1, 4}}}));
  BOOST_TEST(judged(config, han(12)).account.met.empty());
  StepAccount sum, more;
  sum.met = {{a, {4}}};
  more.met = met;
  BOOST_TEST(((sum += more).met == Met{{a, {1, 4}}, {b, {1}}}));
  const auto files = ContaminationFilter(std::vector{std::make_shared<const ContaminationIndex>(config)}, 0).files();
  BOOST_TEST((files[0].file == a && files[0].items == 3 && files[0].too_short == 1));
  std::string items;
  for (int i = 0; i < 12; ++i) items += han(13, 20 * i) + "\n";
  const Outcome named = judged({.evaluations = {{folder.write("c.txt", items)}}}, items);
  BOOST_TEST(std::count(named.why->detail.begin(), named.why->detail.end(), ';') == 9);
  BOOST_TEST(named.account.met.at(folder / "c.txt").size() == 12);
  BOOST_TEST((files[1].file == b && files[1].items == 2 && files[1].too_short == 0));
}

BOOST_AUTO_TEST_CASE(items_are_cleaned_as_each_sources_text_is) {
  const TempFolder folder;
  const ContaminationConfig config{
      .evaluations = {{folder.write(
          "eval.txt", "明月幾時有&#65292;把酒問青天&#12290;不知天上宮闕\n一二三&amp;四五六七八九十十二\n")}}};
  const Extractor plain({}), simplifying({.simplify = "t2s"});
  const auto index = [&](const Extractor& extract) {
    return std::make_shared<const ContaminationIndex>(config, [&](std::string&& text) { return extract.clean(text); });
  };
  const ContaminationFilter filter({index(plain), index(simplifying)}, 0);
  const auto rule = [&](std::uint32_t source, const char* text) {
    TextDocument document;
    document.source = source;
    document.text = text;
    Tally tally;
    const auto why = filter.apply(document, tally);
    return why ? why->rule : "";
  };
  BOOST_TEST(rule(0, "明月幾時有，把酒問青天。不知天上宮闕") == "contaminated");
  BOOST_TEST(rule(0, "明月几时有，把酒问青天。不知天上宫阙") == "");
  BOOST_TEST(rule(1, "明月几时有，把酒问青天。不知天上宫阙") == "contaminated");
  // The entity's letters count as little as its sign.
  BOOST_TEST(filter.files()[0].too_short == 1);
}

BOOST_AUTO_TEST_CASE(evaluations_that_cannot_be_used_are_named) {
  const TempFolder folder;
  const auto refused = [](EvaluationConfig evaluation, int n = 13) {
    return message_of([&] { ContaminationIndex({.evaluations = {evaluation}, .n = n}); });
  };
  BOOST_TEST(contains(refused({folder / "none.txt"}), "none.txt: can't be read"));
  BOOST_TEST(
      contains(refused({folder.write("a.jsonl", "{\"text\":1}\n")}), "a.jsonl: line 1: \"text\" isn't a string"));
  BOOST_TEST(contains(refused({folder.write("b.jsonl", "{\"text\":\"" + han(13) + "\"}\n{\"other\":\"x\"}\n")}),
                      "line 2 has none of the fields text"));
  BOOST_TEST(contains(refused({folder.write("c.jsonl", "no json\n")}), "c.jsonl: line 1"));
  BOOST_TEST(contains(refused({folder.write("d.txt", "\xB6\xC4\n")}), "line 1 isn't UTF-8"));
  BOOST_TEST(contains(refused({folder.write("e.txt", han(12) + "\n")}), "none of its 1 items has 13"));
  BOOST_TEST(contains(refused({folder / "e.txt"}, 1), "n must lie in [2, 1000], found 1"));
}
