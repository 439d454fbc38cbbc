#include "data/corpus/filter/line_filter.h"

#include <unicode/ucnv.h>
#include <unicode/uscript.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "data/corpus/filter/garble.h"
#include "data/corpus/read/input.h"
#include "data/text/char_class.h"
#include "tests/data/filter_cases.h"

using namespace dujiang::data;
using namespace dujiang::test;

namespace {

Outcome lines(const LineRules& rules, std::string text) {
  FilterProfile profile = all_off();
  profile.lines = rules;
  return run<LineFilter>(profile, std::move(text));
}

LineRules rules_off() {
  return all_off().lines;
}

// What a reader sees who takes UTF-8 for `encoding`.
std::string misread(const std::string& text, const char* encoding) {
  UErrorCode status = U_ZERO_ERROR;
  UConverter* converter = ucnv_open(encoding, &status);
  std::u16string units(text.size() * 2 + 1, u'\0');
  const auto length = ucnv_toUChars(converter, units.data(), static_cast<int>(units.size()), text.data(),
                                    static_cast<int>(text.size()), &status);
  ucnv_close(converter);
  BOOST_REQUIRE(U_SUCCESS(status));
  std::string out;
  for (int i = 0; i < length; ++i) append_utf8(out, units[static_cast<std::size_t>(i)]);
  return out;
}

}  // namespace

BOOST_AUTO_TEST_CASE(han_is_what_unicode_says_and_what_planes_2_and_3_will_hold) {
  const auto& classes = CharClasses::get();
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    UErrorCode status = U_ZERO_ERROR;
    const bool script = uscript_getScript(static_cast<UChar32>(c), &status) == USCRIPT_HAN;
    const bool reserved = c >= 0x20000 && c <= 0x3FFFD;
    if (is_han(c) != (script || reserved) || ((classes[c] & CharClass::han) != 0) != is_han(c)) {
      BOOST_FAIL("U+" << std::hex << static_cast<std::uint32_t>(c));
    }
  }
  // Extensions A to I, the compatibility ideographs, zero and the iteration mark.
  for (const char32_t c : U"㐀䶿一鿿𠀀𪛟𪜀𫝀𫠠𬺰𮯰𰀀𱍐豈〇々") {
    if (c != 0) BOOST_TEST(is_han(c), "U+" << std::hex << static_cast<std::uint32_t>(c));
  }
  for (const char32_t c : U"aあアㄅ가，。！（０Ａ ") {
    if (c != 0) BOOST_TEST(!is_han(c), "U+" << std::hex << static_cast<std::uint32_t>(c));
  }
}

BOOST_AUTO_TEST_CASE(lines_with_too_few_han_go_and_the_others_stay_byte_for_byte) {
  LineRules rules = rules_off();
  rules.han_lines = true;
  Random random(1);
  for (int round = 0; round < 300; ++round) {
    std::string text, expected;
    std::int64_t gone = 0;
    const int count = draw(random, 8);
    for (int i = 0; i < count; ++i) {
      const int n = draw(random, 8), latin = draw(random, 20);
      std::string line = han(n, draw(random, 1000)) + std::string(static_cast<std::size_t>(latin), 'x') +
                         times(draw(random, 3), " ") + times(draw(random, 3), "　");
      if (i + 1 < count || draw(random, 2)) line += '\n';
      text += line;
      if (n >= 4 && n >= 0.3 * (n + latin)) {
        expected += line;
      } else {
        gone += !line.empty();
      }
    }
    const Outcome outcome = lines(rules, text);
    BOOST_TEST(outcome.text == expected);
    BOOST_TEST(outcome.hits("few_han") == gone);
  }
}

BOOST_AUTO_TEST_CASE(boilerplate_goes_and_prose_that_speaks_of_it_stays) {
  LineRules rules = rules_off();
  rules.boilerplate = rules.menus = true;
  for (const char* line : {"分享到：微信 微博", "  上一篇：岷江的水", "下一页", "版权所有 © 2020 某某公司",
                           "京ICP备12345678号-1", "责任编辑：张三", "Copyright © 2020 Example",
                           "本文版权归作者，未经授权不得使用", "登录后查看更多内容", "点击查看大图"}) {
    const Outcome outcome = lines(rules, std::string("都江堰\n") + line + "\n成都");
    BOOST_TEST(outcome.text == "都江堰\n成都", line);
    BOOST_TEST(outcome.hits("boilerplate") == 1, line);
  }
  for (const char* line :
       {"登录 | 注册 | 帮助", "首页 > 新闻 > 国内", "首页 新闻 体育 财经 娱乐 科技", "首页 · 论坛 · 博客"}) {
    BOOST_TEST(lines(rules, line).hits("menu") == 1, line);
  }
  for (const char* line : {"- 12 -", "第 12 页", "第12页 共30页", "12/30", "Page 3 of 10", "—3—"}) {
    BOOST_TEST(lines(rules, line).hits("page_number") == 1, line);
  }
  for (const char* line : {"他请我把这篇文章分享到朋友圈里，我没有答应，因为这是别人的心血。", "| 登录 | 注册 | 帮助 |",
                           "床前明月光，疑是地上霜。", "2020/03/15", "</p>", "cd a/b/c/", "- 通过 CLI 或 GUI 连接",
                           "12", "1/2 杯水", "std::cout << 1 >> 2", "点击"}) {
    BOOST_TEST(lines(rules, line).text == line);
  }
  // Three links of eight characters at most, or six words of four, by two characters a word; more Han than others.
  for (const char* line : {"一二三四五六七八 | 首页 | 新闻", "首页 | ab | 新", "首页一二 新闻 体育 财经 娱乐 科技",
                           "首 页页 新闻 体育 财经 娱乐科"})
    BOOST_TEST(lines(rules, line).hits("menu") == 1, line);
  for (const char* line :
       {"一二三四五六七八九 | 首页 | 新闻", "首页 | 新闻", "首 | a | b新", "首页一二三 新闻 体育 财经 娱乐 科技",
        "首页  新闻 体育 财经 娱乐", "首 页页 新闻 体育 财经 娱乐", "首页 新闻 体育 财经 娱乐 科技a"})
    BOOST_TEST(lines(rules, line).hits("menu") == 0, line);
  // Sixty characters are boilerplate, sixty-one say something.
  BOOST_TEST(lines(rules, "版权所有" + han(56)).text == "");
  BOOST_TEST(lines(rules, "版权所有" + han(57)).text != "");
  rules.boilerplate = rules.menus = false;
  BOOST_TEST(lines(rules, "登录 | 注册 | 帮助\n版权所有").text == "登录 | 注册 | 帮助\n版权所有");
  rules.phrases = {"都江堰日报"};
  BOOST_TEST(lines(rules, "版权所有\n本报讯（都江堰日报）").text == "版权所有\n");
  BOOST_TEST(lines(rules, "©").text == "©");
}

BOOST_AUTO_TEST_CASE(private_use_is_of_three_areas) {
  for (const char32_t c : {U'\xE000', U'\xF8FF', U'\xF0000', U'\xFFFFD', U'\x100000', U'\x10FFFD'}) {
    std::string text;
    append_utf8(text, c);
    BOOST_TEST(line_noise(text).private_use == 1);
  }
  for (const char32_t c : {U'\xD7FF', U'\xF900', U'\xEFFFF', U'\xFFFFE', U'\xFFFFF', U'\x10FFFF'}) {
    std::string text;
    append_utf8(text, c);
    BOOST_TEST(line_noise(text).private_use == 0);
  }
}

BOOST_AUTO_TEST_CASE(controls_of_latin_1_are_garble) {
  for (const char* c : {"\u0080", "\u009F"}) BOOST_TEST(lines(rules_off(), c).hits("garbled_character") == 1);
  BOOST_TEST(lines(rules_off(), "\u00A0").hits("garbled_character") == 0);
}

BOOST_AUTO_TEST_CASE(text_decoded_wrongly_is_told_from_text) {
  const std::string sound =
      "都江堰是战国时期秦国蜀郡太守李冰率众修建的大型水利工程，两千多年来一直发挥着防洪灌溉的作用，使成都平原成为天府之"
      "国。";
  BOOST_TEST(line_noise(sound).garbled == 0);
  for (const char* encoding : {"GBK", "ISO-8859-1", "windows-1252"}) {
    const std::string garbled = misread(sound, encoding);
    const auto chars = static_cast<double>(count_chars(garbled));
    // Over four fifths of the characters are recognised; the rest are what no encoding could show.
    BOOST_TEST(static_cast<double>(line_noise(garbled).garbled) > 0.8 * chars, encoding << ": " << garbled);
    LineRules rules = rules_off();
    rules.max_garble = 0.1;
    const Outcome outcome = lines(rules, "成都\n" + garbled + "\n平原");
    BOOST_TEST(outcome.text == "成都\n平原", encoding);
  }
  const std::string twice = misread(misread(sound, "ISO-8859-1"), "ISO-8859-1");
  BOOST_TEST(line_noise(twice).garbled > 100);
  BOOST_TEST(line_noise("锟斤拷锟斤拷").garbled == 6);
  BOOST_TEST(line_noise("烫烫烫烫").garbled == 4);
  BOOST_TEST(line_noise("屯屯屯").garbled == 3);
  // Sound text with the same characters.
  for (const char* line : {"水很烫烫手", "屯田", "锟铻", "涓涓细流，鏄然", "妍媸美恶", "café déjà vu à la carte",
                           "30°C ±5µm «q»", "洹水洧水涔水浃洽"}) {
    BOOST_TEST(line_noise(line).garbled == 0, line);
  }
}

BOOST_AUTO_TEST_CASE(no_replacement_character_stays) {
  const Outcome outcome = lines(rules_off(), han(500) + "\n" + han(99) + "\uFFFD\n" + han(10));
  BOOST_TEST(outcome.text == han(500) + "\n" + han(10));
  BOOST_TEST(outcome.hits("replacement_character") == 1);
}

BOOST_AUTO_TEST_CASE(lost_and_described_characters_are_counted_and_go_above_their_share) {
  LineRules rules = rules_off();
  rules.glyph_descriptions = true;
  const std::string text = "天地□黄{氵冀}洪荒\n□□□\n{崇|匕/具}{\uE854攴}";
  Outcome outcome = lines(rules, text);
  BOOST_TEST(outcome.text == text);
  BOOST_TEST(outcome.hits("lost_character") == 4);
  BOOST_TEST(outcome.hits("glyph_description") == 3);
  BOOST_TEST(outcome.hits("private_use") == 1);
  rules.max_lost = 0.5;
  outcome = lines(rules, text);
  BOOST_TEST(outcome.text == "天地□黄{氵冀}洪荒\n");  // five of ten
  BOOST_TEST(outcome.hits("lost_line") == 2);
  BOOST_TEST(outcome.hits("lost_character") == 4);
  rules.max_lost = 0.49;
  BOOST_TEST(lines(rules, text).text == "");
  rules.glyph_descriptions = false;
  BOOST_TEST(lines(rules, text).hits("glyph_description") == 0);
  for (const char* sound : {"{name}", "{变量:1}", "{}", "{没有结尾", "{这里的汉字太多了不是一个字的描述吧真的}"}) {
    BOOST_TEST(line_noise(sound).described == 0, sound);
  }
  rules.max_private_use = 0.1;
  BOOST_TEST(lines(rules, han(9) + "\uE000").hits("private_use_line") == 0);
  BOOST_TEST(lines(rules, han(8) + "\uE000").hits("private_use_line") == 1);
}

BOOST_AUTO_TEST_CASE(a_document_of_garble_goes_whole) {
  LineRules rules = rules_off();
  rules.max_garble = 0.1;
  rules.max_garbled_lines = 0.3;
  const std::string garbled = times(10, "锟斤拷") + "\n";  // 91 bytes
  const Outcome outcome = lines(rules, garbled + han(60));
  BOOST_TEST(outcome.rule() == "garbled");
  BOOST_TEST(outcome.why->value == 91.0 / 271);
  BOOST_TEST(outcome.why->limit == 0.3);
  BOOST_TEST(lines(rules, garbled + han(80)).rule() == "");
}

// Figures of the file itself, counted by another program.
BOOST_AUTO_TEST_CASE(the_noise_of_the_poems_is_found) {
  const std::string file = DUJIANG_SHARED_DATA "/poetry.jsonl.zst";
  if (!std::filesystem::exists(file)) {
    BOOST_TEST_MESSAGE("skipped: no " << file);
    return;
  }
  const std::vector<FilterProfile> profiles{profile_of(Genre::classical)};
  std::vector<std::unique_ptr<Step>> steps;
  steps.push_back(std::make_unique<LineFilter>(profiles));
  const StepChain chain(std::move(steps));
  std::vector<StepAccount> accounts(1);
  LineReader reader(file);
  TextDocument document;
  std::int64_t extension = 0;
  for (std::string line; reader.next(line);) {
    document.text = nlohmann::json::parse(line).at("text").get<std::string>();
    for (std::size_t pos = 0; pos < document.text.size();) {
      const char32_t c = next_char(document.text, pos);
      extension += c >= 0x20000 && is_han(c);
    }
    chain.apply(document, accounts);
  }
  accounts[0].check("lines");
  const auto hits = [&](const char* rule) { return accounts[0].rules[rule].hits; };
  BOOST_TEST(accounts[0].in.documents == 342077);
  BOOST_TEST(hits("lost_character") == 12037);   // all □
  BOOST_TEST(hits("glyph_description") == 470);  // all braces but those of a stray HTTP header
  BOOST_TEST(hits("private_use") == 37);
  BOOST_TEST(hits("replacement_character") == 13);
  BOOST_TEST(extension == 1991);
}
