#include <boost/test/unit_test.hpp>
#include <string>
#include <thread>
#include <vector>

#include "data/text/normalise.h"
#include "data/text/script.h"
#include "data/text/utf8.h"
#include "framework/base/check.h"

using namespace dujiang;
using namespace dujiang::data;

namespace {

std::string normalised(std::string_view text, const NormaliseConfig& config = {}) {
  NormaliseReport report;
  std::string out = normalise(text, config, report);
  std::int64_t bytes = 0;
  for (const auto& rule : report.rules) bytes += rule.bytes;
  BOOST_TEST(static_cast<std::int64_t>(text.size()) - bytes == static_cast<std::int64_t>(out.size()), text);
  return out;
}

// The text of each case goes in and comes out; of the rules only this one has hits.
struct Case {
  NormaliseRule rule;
  std::string in, out;
  std::int64_t hits;
};

NormaliseConfig nothing() {
  NormaliseConfig off;
  off.terminal = off.line_ends = off.controls = off.invisible = off.spaces = off.full_width = off.gb_private = false;
  off.entities = off.trailing_blanks = false;
  off.punctuation_run = off.ruler_run = 0;
  off.blank_lines = -1;
  return off;
}

}  // namespace

BOOST_AUTO_TEST_CASE(each_rule_does_its_work_and_says_so) {
  using R = NormaliseRule;
  using namespace std::string_literals;
  const std::vector<Case> cases{
      {R::terminal, "\x1B[33m静\x1B[m夜", "静夜", 1},
      {R::terminal, "_\b思", "思", 1},
      {R::terminal, "\x1B]0;题\a静\x1B]0;目\x1B\\夜", "静夜", 1},
      {R::line_ends, "一\r\n二\r三\u2028四\u2029五\u0085六\f七\v八", "一\n二\n三\n四\n五\n六\n七\n八", 7},
      {R::controls, "一\0二\x01三\x7F四\u0080五\uFDD0六\uFFFF七\U0001FFFE八\uFFFC"s, "一二三四五六七八", 8},
      {R::invisible, "\uFEFF一\u200B二\u00AD三\u200E四\u202E五\u2066六\u2060七\u200D八\U000E0041", "一二三四五六七八",
       9},
      {R::spaces, "一\u3000二\u00A0三\u2003四", "一 二 三 四", 3},
      {R::full_width, "ＡＺａｚ０９", "AZaz09", 6},
      {R::gb_private, "\uE78D\uE81E\uE816", "\uFE10\u9FB4\U00020087", 3},
      {R::entities, "&lt;一&amp;lt;&#20013;&#x4E2D;&hellip;&nope;&#0;&#xD800;&#xFFFD;& &;",
       "<一&lt;中中…&nope;&#0;&#xD800;&#xFFFD;& &;", 5},
      {R::punctuation_run, "好！！！！！吗？？？？。。。。!!!!", "好！！！吗？？？。。。!!!", 2 + 1 + 1 + 1},
      {R::punctuation_run, "----------", "--------", 2},
      {R::punctuation_run, "……、……………………………………", "……、………………………………………"s.substr(0, 3 * 3 + 3 * 8), 0},
      {R::trailing_blanks, "一  \n二\t\n三 ", "一\n二\n三", 3},
      {R::blank_lines, "\n\n一\n\n\n\n二\n\n", "一\n\n二", 2 + 2 + 1},
  };
  for (const Case& c : cases) {
    if (c.hits == 0) continue;
    BOOST_TEST_CONTEXT(c.in) {
      NormaliseReport report;
      BOOST_TEST(normalise(c.in, {}, report) == c.out);
      for (std::size_t i = 0; i < normalise_rules.size(); ++i) {
        BOOST_TEST_CONTEXT(normalise_rules[i])
        BOOST_TEST(report.rules[i].hits == (static_cast<R>(i) == c.rule ? c.hits : 0));
      }
      BOOST_TEST(normalised(c.in, nothing()) == c.in);
    }
  }
}

BOOST_AUTO_TEST_CASE(chinese_text_stays_as_it_is) {
  const std::string text =
      "，：；？！（）《》「」【】、。“”‘’—…·～￥％＋－＝＜＞［］｛｝｜＼／＠＃＄＆＊\n"
      "豈更車賈滑串句龜﨑塚\n"                                     // compatibility ideographs, which NFC would change
      "①②③㈠㎏㎡℃Ⅳ½²ﬁé\n"                                          // what NFKC would take apart
      "葛\U000E0100葛\uFE00☺\uFE0F㐀\U00020000\U000323AF\uE000\n"  // variants, rare planes, private use
      "👨\u200D👩\u200D👧 👩🏽\u200D💻 🏳️\u200D🌈\n"
      "静夜思……——\n\n床前\t明月光\n    缩进";
  BOOST_TEST(normalised(text) == text);
  // Every Han character and every sign of the full-width block but letters and digits.
  std::string all;
  for (char32_t c = 0x3400; c < 0xA000; ++c) append_utf8(all, c);
  for (char32_t c = 0xF900; c < 0xFB00; ++c) append_utf8(all, c);
  for (char32_t c = 0xFF01; c < 0xFF66; ++c) {
    const bool alphanumeric =
        (c >= 0xFF10 && c <= 0xFF19) || (c >= 0xFF21 && c <= 0xFF3A) || (c >= 0xFF41 && c <= 0xFF5A);
    if (!alphanumeric) append_utf8(all, c);
  }
  for (char32_t c = 0x20000; c < 0x33480; ++c) {
    if ((c & 0xFFFE) != 0xFFFE) append_utf8(all, c);
  }
  BOOST_TEST((normalised(all) == all));
}

BOOST_AUTO_TEST_CASE(a_joiner_stays_only_between_the_parts_of_an_emoji) {
  BOOST_TEST(normalised("中\u200D国") == "中国");
  BOOST_TEST(normalised("👨\u200D国") == "👨国");
  BOOST_TEST(normalised("\u200D👨\u200D") == "👨");
  BOOST_TEST(normalised("👨\u200D\u200D👩") == "👨\u200D👩");
}

BOOST_AUTO_TEST_CASE(limits_of_runs_are_those_of_the_config) {
  NormaliseConfig config;
  config.punctuation_run = 1;
  config.ruler_run = 4;
  config.blank_lines = 0;
  BOOST_TEST(normalised("好！！……\n\n\n=======", config) == "好！……\n====");
  config.punctuation_run = config.ruler_run = 0;
  config.blank_lines = 3;
  BOOST_TEST(normalised("！！！！！\n\n\n\n\n\n----------", config) == "！！！！！\n\n\n\n----------");
  // What separates two runs must stay for them to be two.
  BOOST_TEST(normalised("！！\u200B！！") == "！！！");
  BOOST_TEST(normalised("！！一！！") == "！！一！！");
}

BOOST_AUTO_TEST_CASE(a_second_pass_changes_nothing) {
  const std::vector<std::string_view> pieces{
      "一",   "！",     "！！",   "!",      "-", "----",       "…",       " ",    "\t",     "\n", "\r",
      "\r\n", "\u3000", "\u200B", "\u200D", "👨", "\uFE0F",     "\x1B[1m", "\b",   "\u2028", "Ａ", "\uE78D",
      "\x07", "\u00AD", "\uFEFF", "a",      "&", "\U0010FFFF", "\u0085",  "\x1B", "é"};
  std::uint64_t state = 7;
  const auto random = [&] {
    return static_cast<unsigned>((state = state * 6364136223846793005u + 1442695040888963407u) >> 33);
  };
  NormaliseConfig config;
  config.entities = false;  // "&amp;lt;" may well become "&lt;" and then "<"
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (unsigned n = random() % 24; n > 0; --n) text += pieces[random() % pieces.size()];
    const std::string once = normalised(text, config);
    BOOST_REQUIRE(utf8_valid_prefix(once) == once.size());
    BOOST_REQUIRE(normalised(once, config) == once);
  }
}

BOOST_AUTO_TEST_CASE(the_script_is_told_by_characters_of_one_script_only) {
  BOOST_TEST((count_script("这个国家的历史").script() == Script::simplified));
  BOOST_TEST((count_script("這個國家的歷史").script() == Script::traditional));
  BOOST_TEST((count_script("山中人不知").script() == Script::none));
  BOOST_TEST((count_script("这個").script() == Script::none));
  BOOST_TEST((count_script("").script() == Script::none));
  // Characters of both scripts count for neither.
  const ScriptCounts both = count_script("后里干面只台云松緼苧藴輼醖");
  BOOST_TEST(both.simplified == 0u);
  BOOST_TEST(both.traditional == 0u);
}

BOOST_AUTO_TEST_CASE(traditional_becomes_simplified_by_the_chosen_dictionary) {
  BOOST_TEST(Simplifier("t2s")("這個國家的歷史") == "这个国家的历史");
  BOOST_TEST(Simplifier("tw2sp")("滑鼠與軟體") == "鼠标与软件");
  BOOST_TEST(Simplifier("tw2s")("裡面") == "里面");
  BOOST_CHECK_THROW(Simplifier("s2t"), UserError);
}

BOOST_AUTO_TEST_CASE(one_simplifier_serves_all_threads) {
  const Simplifier simplify("t2s");
  std::string text;
  for (int i = 0; i < 200; ++i) text += "明月幾時有，把酒問青天。不知天上宮闕，今夕是何年。";
  const std::string expected = simplify(text);
  std::vector<std::string> got(4);
  std::vector<std::thread> threads;
  for (auto& out : got) threads.emplace_back([&] { out = simplify(text); });
  for (auto& thread : threads) thread.join();
  for (const auto& out : got) BOOST_TEST((out == expected));
}
