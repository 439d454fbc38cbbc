#include "data/corpus/filter/words.h"

#include <set>

#include "tests/data/filter_cases.h"
#include "tests/support/messages.h"
#include "tests/support/temp_folder.h"

using namespace dujiang::data;
using namespace dujiang::test;

namespace {

Outcome filtered(const std::vector<WordListConfig>& lists, std::string text) {
  return run([&] { return std::make_unique<WordFilter>(lists); }, std::move(text));
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_automaton_finds_what_a_naive_search_finds) {
  Random random(6);
  for (int round = 0; round < 300; ++round) {
    // Few letters, so that words overlap, nest and share ends.
    const int letters = 2 + draw(random, 3);
    const auto string = [&](int most) {
      std::string out;
      for (int i = 1 + draw(random, most); i > 0; --i) {
        out +=
            round % 2 ? han(1, draw(random, letters)) : std::string(1, static_cast<char>(draw(random, letters) * 85));
      }
      return out;
    };
    std::vector<std::string> words;
    for (int i = draw(random, 60); i > 0; --i) words.push_back(string(6));
    const AhoCorasick automaton(words);
    const std::string text = string(300);
    std::vector<std::pair<std::size_t, std::string>> found, expected;
    automaton.scan(text, [&](std::uint32_t word, std::size_t end) { found.emplace_back(end, words[word]); });
    const std::set<std::string> distinct(words.begin(), words.end());
    for (std::size_t end = 1; end <= text.size(); ++end) {
      for (std::size_t length = end; length > 0; --length) {
        const std::string part = text.substr(end - length, length);
        if (distinct.contains(part)) expected.emplace_back(end, part);
      }
    }
    BOOST_REQUIRE(found == expected);
  }
}

BOOST_AUTO_TEST_CASE(a_hundred_thousand_words_are_each_found) {
  Random random(7);
  std::vector<std::string> words;
  for (int i = 0; i < 100000; ++i) {
    std::string word;
    for (int k = 2 + draw(random, 4); k > 0; --k) word += han(1, draw(random, 5000));
    words.push_back(word);
  }
  const AhoCorasick automaton(words);
  for (const auto& word : words) {
    bool whole = false;
    automaton.scan("前" + word + "后",
                   [&](std::uint32_t w, std::size_t end) { whole |= words[w] == word && end == word.size() + 3; });
    BOOST_REQUIRE(whole);
  }
}

BOOST_AUTO_TEST_CASE(words_are_found_through_case_width_and_spaces) {
  const TempFolder folder;
  const std::vector<WordListConfig> lists{{.name = "list",
                                           .file = folder.write("a.txt", "# comment\n\n赌博网站\nAV\nＶＩＰ充值\n"),
                                           .action = Action::mask}};
  for (const char* text :
       {"赌博网站", "赌 博 网 站", "赌　博\u200B网\u00A0站", "av", "ＡＶ", "A V", "vip充值", "ＶｉＰ充值"}) {
    BOOST_TEST(filtered(lists, text).text == "<敏感词>", text);
    BOOST_TEST(filtered(lists, std::string("前") + text + "后").text == "前<敏感词>后", text);
  }
  for (const char* text : {"赌博网", "have", "java", "aviation", "AV1", "赌博\n网站", "赌，博网站"}) {
    BOOST_TEST(filtered(lists, text).text == text, text);
  }
  // A letter or digit next to a word that ends in one makes it another word: those at the ends of the ranges too.
  const std::vector<WordListConfig> letters{
      {.name = "list", .file = folder.write("b.txt", "az\n09\n"), .action = Action::mask}};
  for (const char* text : {"zaz", "aaz", "Zaz", "0az", "9az", "aza", "azz", "az0", "az9", "909", "009", "099", "09z"})
    BOOST_TEST(filtered(letters, text).text == text, text);
  for (const char* text : {"az", "09"})
    for (const char* beside : {"/", ":", "@", "[", "`", "{"})
      BOOST_TEST(filtered(letters, text + std::string(beside)).text == "<敏感词>" + std::string(beside), beside);
}

BOOST_AUTO_TEST_CASE(each_action_does_what_it_says_and_lists_are_counted_apart) {
  const TempFolder folder;
  const std::string a = folder.write("a.txt", "赌博\n赌博网\n"), b = folder.write("b.txt", "博网站\n赌博\n");
  const std::string text = "一行\n赌博网站好\n又一行赌博\n末行";
  Outcome outcome = filtered({{"a", a, Action::keep}, {"b", b, Action::keep}}, text);
  BOOST_TEST(outcome.text == text);
  BOOST_TEST(outcome.hits("a") == 3);
  BOOST_TEST(outcome.hits("a:赌博") == 2);
  BOOST_TEST(outcome.hits("a:赌博网") == 1);
  BOOST_TEST(outcome.hits("b") == 3);
  BOOST_TEST(outcome.hits("b:赌博") == 2);
  outcome = filtered({{"a", a, Action::mask}, {.name = "b", .file = b, .by_word = false}}, text);
  BOOST_TEST(outcome.text == "一行\n<敏感词>站好\n又一行<敏感词>\n末行");
  BOOST_TEST(outcome.hits("b:赌博") == 0);
  BOOST_TEST(outcome.account.rules.at("b").bytes == 0);
  outcome = filtered({{"a", a, Action::mask}, {"b", b, Action::mask}}, text);
  BOOST_TEST(outcome.text == "一行\n<敏感词>好\n又一行<敏感词>\n末行");
  outcome = filtered({{"a", a, Action::mask}, {"b", folder.write("c.txt", "博网站"), Action::drop_line}}, text);
  BOOST_TEST(outcome.text == "一行\n又一行<敏感词>\n末行");
  outcome = filtered({{"a", folder.write("d.txt", "末行\n一行"), Action::drop_line}}, text);
  BOOST_TEST(outcome.text == "赌博网站好\n");
  BOOST_TEST(outcome.hits("a") == 3);
  // Twice in one list is once.
  BOOST_TEST(filtered({{"a", folder.write("e.txt", "末行\n末 行\n")}}, text).hits("a") == 1);
  outcome = filtered({{"a", a, Action::drop}}, text);
  BOOST_TEST(outcome.rule() == "a");
  BOOST_TEST(outcome.why->value == 3);
  BOOST_TEST(outcome.why->detail == "赌博");
}

BOOST_AUTO_TEST_CASE(a_density_separates_what_is_on_its_sides) {
  const TempFolder folder;
  const std::vector<WordListConfig> lists{{.name = "a", .file = folder.write("a.txt", "赌博"), .max_density = 10}};
  BOOST_TEST(filtered(lists, "赌博" + han(98)).rule() == "");
  const Outcome outcome = filtered(lists, "赌博" + han(97));
  BOOST_TEST(outcome.rule() == "a");
  BOOST_TEST(outcome.why->value == 1000.0 / 99);
  BOOST_TEST(outcome.why->limit == 10);
}

BOOST_AUTO_TEST_CASE(masking_leaves_no_word_and_nothing_else_changes) {
  const TempFolder folder;
  Random random(8);
  for (int round = 0; round < 300; ++round) {
    std::string file, text;
    for (int i = 1 + draw(random, 5); i > 0; --i) {
      for (int k = 1 + draw(random, 4); k > 0; --k) file += han(1, draw(random, 4));
      file += "\n";
    }
    for (int i = draw(random, 60); i > 0; --i) text += draw(random, 10) ? han(1, draw(random, 6)) : "\n";
    const std::string path = folder.write("w.txt", file);
    const Outcome lines = filtered({{"a", path, Action::drop_line}}, text),
                  masks = filtered({{"a", path, Action::mask}}, text);
    BOOST_TEST(filtered({{"a", path, Action::keep}}, lines.text).hits("a") == 0);
    BOOST_TEST(filtered({{"a", path, Action::keep}}, masks.text).hits("a") == 0);
    BOOST_TEST((masks.text == text) == (lines.text == text));
  }
}

BOOST_AUTO_TEST_CASE(lists_that_cannot_be_used_are_named) {
  const TempFolder folder;
  const auto refused = [](WordListConfig list) { return message_of([&] { WordFilter({list}); }); };
  BOOST_TEST(contains(refused({"a", folder / "none.txt"}), "none.txt: can't be read: No such file"));
  BOOST_TEST(contains(refused({"a", folder.write("gbk.txt", "ok\n\xB6\xC4\n")}), "gbk.txt: line 2 isn't UTF-8"));
  BOOST_TEST(contains(refused({"a", folder.write("empty.txt", "# nothing\n\n")}), "empty.txt: no words"));
  BOOST_TEST(contains(refused({"A B", folder.write("a.txt", "x\n")}), "found \"A B\""));
  BOOST_TEST(contains(message_of([&] {
                        WordFilter({{"a", folder / "a.txt"}, {"a", folder / "a.txt"}});
                      }),
                      "two lists are named a"));
  BOOST_TEST(contains(refused({.name = "a", .file = folder / "a.txt", .max_density = -1}), "found -1"));
}
