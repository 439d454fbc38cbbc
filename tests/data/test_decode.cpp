#include <boost/test/unit_test.hpp>
#include <set>
#include <string>
#include <vector>

#include "data/text/decode.h"
#include "data/text/utf8.h"
#include "tests/data/codec.h"

using namespace dujiang::data;
using dujiang::test::Encoder;
using dujiang::test::gb2022;
using dujiang::test::utf16;

namespace {

// Su Shi's shuidiao getou, which both scripts write; and prose of today.
const std::u32string verse =
    U"明月几时有，把酒问青天。\n不知天上宫阙，今夕是何年。\n我欲乘风归去，又恐琼楼玉宇，高处不胜寒。\n"
    U"起舞弄清影，何似在人间？\n";
const std::u32string traditional_verse =
    U"明月幾時有，把酒問青天。\n不知天上宮闕，今夕是何年。\n我欲乘風歸去，又恐瓊樓玉宇，高處不勝寒。\n"
    U"起舞弄清影，何似在人間？\n";
const std::u32string prose =
    U"这个函数返回一个新的列表，其中 x 的值不会改变；如果出现错误，请检查 config.yaml 文件。\n";

std::string utf8(std::u32string_view text) {
  std::string out;
  for (const char32_t c : text) append_utf8(out, c);
  return out;
}

Decoded as(Encoding encoding, std::string_view bytes) {
  return decode(bytes, {encoding, true});
}

void check_decodes(std::string_view bytes, Encoding encoding, std::u32string_view text, const DecodeHint& hint = {}) {
  const Decoded got = decode(bytes, hint);
  BOOST_TEST(!got.fault.has_value());
  BOOST_TEST((got.encoding == encoding));
  BOOST_TEST(got.text == utf8(text));
}

std::string rule_of(const Decoded& decoded) {
  return decoded.fault ? decoded.fault->rule : "none";
}

bool is_surrogate(char32_t c) {
  return c >= 0xD800 && c <= 0xDFFF;
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_two_byte_code_of_gb18030_is_one_character_and_round_trips) {
  const Encoder encode("gb18030");
  std::set<char32_t> seen;
  std::size_t wrong = 0;
  for (int lead = 0x81; lead <= 0xFE; ++lead) {
    for (int trail = 0x40; trail <= 0xFE; ++trail) {
      const std::string code{static_cast<char>(lead), static_cast<char>(trail)};
      const Decoded got = as(Encoding::gb18030, code);
      if (trail == 0x7F) {
        wrong += !got.fault;
        continue;
      }
      std::size_t pos = 0;
      const char32_t c = got.fault ? 0 : next_char(got.text, pos);
      wrong += c == 0 || pos != got.text.size() || encode(c) != code || !seen.insert(c).second;
    }
  }
  BOOST_TEST(wrong == 0u);
  BOOST_TEST(seen.size() == 23940u);
}

BOOST_AUTO_TEST_CASE(every_unicode_character_round_trips_through_gb18030) {
  const Encoder encode("gb18030");
  std::size_t four = 0;
  for (char32_t begin = 0; begin < 0x110000; begin += 0x1000) {
    std::string bytes, text;
    for (char32_t c = begin; c < begin + 0x1000; ++c) {
      if (is_surrogate(c) || c == 0xFFFD || c == 0xFEFF) continue;
      const std::string code = encode(c);
      four += code.size() == 4;
      bytes += code;
      append_utf8(text, c);
    }
    if (as(Encoding::gb18030, bytes).text != text) BOOST_ERROR("not the same at U+" << static_cast<unsigned>(begin));
  }
  // All but ASCII, the two-byte codes, the surrogates and the two left out above.
  BOOST_TEST(four == 0x110000u - 0x80 - 23940 - 0x800 - 2);
}

BOOST_AUTO_TEST_CASE(four_byte_codes_of_no_character_are_refused) {
  for (const std::string_view code : {"\x84\x31\xA5\x30", "\x85\x30\x81\x30", "\x8F\x39\xFE\x39", "\xE3\x32\x9A\x36",
                                      "\xFE\x39\xFE\x39", "\x81\x30\x80\x30", "\x81\x30\x81\x3A", "\x81\x3A\x81\x30"})
    BOOST_TEST(rule_of(as(Encoding::gb18030, code)) == "undecodable");
  BOOST_TEST(as(Encoding::gb18030, "\xE3\x32\x9A\x35").text == utf8(U"\U0010FFFF"));
  BOOST_TEST(as(Encoding::gb18030, "\x90\x30\x81\x30").text == utf8(U"\U00010000"));
}

BOOST_AUTO_TEST_CASE(gb18030_follows_the_edition_of_2022) {
  for (const auto& change : gb2022) {
    BOOST_TEST(as(Encoding::gb18030, change.two).text == utf8({&change.c, 1}));
    BOOST_TEST(as(Encoding::gb18030, change.four).text == utf8({&change.private_use, 1}));
  }
  // Those of 2005, and those which 2022 left in private use.
  BOOST_TEST(as(Encoding::gb18030, "\xA8\xBC").text == utf8(U"\u1E3F"));
  BOOST_TEST(as(Encoding::gb18030, "\x81\x35\xF4\x37").text == utf8(U"\uE7C7"));
  BOOST_TEST(as(Encoding::gb18030, "\xFE\x51").text == utf8(U"\uE816"));
  BOOST_TEST(as(Encoding::gb18030, "\x95\x32\x90\x31").text == utf8(U"\U00020087"));
}

BOOST_AUTO_TEST_CASE(every_character_of_big5_round_trips_and_user_defined_codes_are_refused) {
  const Encoder encode("Big5-HKSCS");
  std::size_t characters = 0;
  for (int lead = 0x81; lead <= 0xFE; ++lead) {
    for (int trail = 0x40; trail <= 0xFE; ++trail) {
      const std::string code{static_cast<char>(lead), static_cast<char>(trail)};
      const Decoded got = as(Encoding::big5, code);
      if (got.fault) continue;
      std::size_t pos = 0;
      const char32_t c = next_char(got.text, pos);
      BOOST_TEST(pos == got.text.size());
      BOOST_TEST(!(c >= 0xE000 && c <= 0xF8FF));
      // Some characters have two codes; the one that is written reads as the same.
      BOOST_TEST(as(Encoding::big5, encode(c)).text == got.text);
      ++characters;
    }
  }
  BOOST_TEST(characters > 18000u);  // Big5's 13,053 Han with signs, and HKSCS's
  BOOST_TEST(rule_of(as(Encoding::big5, "\x81\x40")) == "undecodable");
}

BOOST_AUTO_TEST_CASE(text_is_told_by_its_characters) {
  check_decodes(utf8(verse), Encoding::utf8, verse);
  for (const auto& text : {verse, prose, traditional_verse})
    check_decodes(Encoder("gb18030")(text), Encoding::gb18030, text);
  check_decodes(Encoder("GBK")(prose), Encoding::gb18030, prose);
  check_decodes(Encoder("GB2312")(verse), Encoding::gb18030, verse);
  check_decodes(Encoder("Big5")(traditional_verse), Encoding::big5, traditional_verse);
  for (const bool big : {false, true}) check_decodes(utf16(prose + verse, big, false), Encoding::utf16, prose + verse);
  check_decodes("plain ASCII\n", Encoding::utf8, U"plain ASCII\n");
  check_decodes("", Encoding::utf8, U"");
}

BOOST_AUTO_TEST_CASE(every_line_of_some_length_is_told_by_itself) {
  const Encoder gb("gb18030"), big5("Big5");
  for (const std::u32string_view line :
       {U"不知天上宫阙，今夕是何年。", U"我欲乘风归去", U"如果出现错误，请检查", U"这个函数返回一个新的列表"})
    check_decodes(gb(line), Encoding::gb18030, line);
  for (const std::u32string_view line : {U"不知天上宮闕，今夕是何年。", U"我欲乘風歸去", U"起舞弄清影，何似在人間？"}) {
    check_decodes(gb(line), Encoding::gb18030, line);
    check_decodes(big5(line), Encoding::big5, line);
  }
}

BOOST_AUTO_TEST_CASE(a_wrong_label_does_not_win_over_the_text) {
  const std::string gbk = Encoder("GBK")(verse), big5 = Encoder("Big5")(traditional_verse);
  check_decodes(big5, Encoding::big5, traditional_verse, {Encoding::gb18030, false});
  check_decodes(gbk, Encoding::gb18030, verse, {Encoding::big5, false});
  check_decodes(utf8(verse), Encoding::utf8, verse, {Encoding::gb18030, false});
  check_decodes(gbk, Encoding::gb18030, verse, {Encoding::utf8, false});
  // A certain one is taken at its word.
  BOOST_TEST(as(Encoding::gb18030, big5).text != utf8(traditional_verse));
}

BOOST_AUTO_TEST_CASE(byte_order_marks_decide_and_vanish) {
  const std::string gb_mark = "\x84\x31\x95\x33", utf8_mark = "\xEF\xBB\xBF";
  check_decodes(utf8_mark + utf8(verse), Encoding::utf8, verse);
  check_decodes(utf8_mark, Encoding::utf8, U"");
  check_decodes(gb_mark + Encoder("gb18030")(verse), Encoding::gb18030, verse);
  for (const bool big : {false, true}) {
    check_decodes(utf16(verse, big, true), Encoding::utf16, verse);
    check_decodes(utf16(U"中", big, true), Encoding::utf16, U"中");
    check_decodes(utf16(U"\U00020000\U0010FFFF", big, true), Encoding::utf16, U"\U00020000\U0010FFFF");
  }
  // What stands behind a mark must be what it says; UTF-32 is none of the encodings.
  BOOST_TEST(rule_of(decode(utf8_mark + Encoder("GBK")(verse))) == "undecodable");
  BOOST_TEST(decode(std::string_view("\xFF\xFE\0\0\x2D\x4E\0\0", 8)).fault.has_value());
  BOOST_TEST(decode(std::string_view("\0\0\xFE\xFF\0\0\x4E\x2D", 8)).fault.has_value());
}

BOOST_AUTO_TEST_CASE(text_cut_within_a_character_is_refused_where_the_character_begins) {
  const std::u32string text = U"中a\U00020000文é，\U0001F600字";
  const auto check = [&](Encoding encoding, const auto& encode) {
    std::string bytes;
    std::set<std::size_t> starts{0};
    for (const char32_t c : text) {
      bytes += encode(c);
      starts.insert(bytes.size());
    }
    for (std::size_t cut = 0; cut <= bytes.size(); ++cut) {
      const Decoded got = as(encoding, std::string_view(bytes).substr(0, cut));
      const std::size_t start = *std::prev(starts.upper_bound(cut));
      if (start == cut) {
        BOOST_TEST(rule_of(got) == "none");
      } else {
        BOOST_REQUIRE(got.fault.has_value());
        BOOST_TEST(got.fault->rule == "undecodable");
        BOOST_TEST(got.fault->offset == start);
      }
    }
  };
  check(Encoding::utf8, [](char32_t c) { return utf8({&c, 1}); });
  check(Encoding::gb18030, Encoder("gb18030"));
}

BOOST_AUTO_TEST_CASE(utf16_with_a_lone_surrogate_or_an_odd_byte_is_refused) {
  const std::string text = utf16(U"中文\n", false, true);
  const auto refused = [&](std::string_view tail, std::size_t offset) {
    const Decoded got = decode(text + std::string(tail));
    BOOST_REQUIRE(got.fault.has_value());
    BOOST_TEST(got.fault->rule == "undecodable");
    BOOST_TEST(got.fault->offset == offset);
  };
  refused(std::string_view("\0\xD8", 2), 8);
  refused(std::string_view("\0\xDC", 2), 8);
  refused(std::string_view("\0\xD8\x2D\x4E", 4), 8);
  refused(std::string_view("\x2D\x4E\0\xDC\0\xD8", 6), 10);
  refused("x", 8);
  refused(std::string_view("\0", 1), 8);
}

BOOST_AUTO_TEST_CASE(utf8_with_bad_bytes_is_damaged_utf8_and_nothing_else) {
  const std::string text = utf8(verse + prose);
  for (const std::string_view bad : {"\xFF", "\xC0\x80", "\xE4\xB8", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\x80"}) {
    const std::size_t at = text.find("\n") + 1;
    const Decoded got = decode(text.substr(0, at) + std::string(bad) + text.substr(at));
    BOOST_REQUIRE(got.fault.has_value());
    BOOST_TEST(got.fault->rule == "undecodable");
    BOOST_TEST((got.encoding == Encoding::utf8));
    BOOST_TEST(got.fault->offset == at);
    BOOST_TEST(got.text.empty());
  }
  // Cut in its last character it might pass for GB18030 by validity alone.
  for (std::size_t characters = 2; characters < verse.size(); ++characters) {
    const std::string whole = utf8(verse.substr(0, characters));
    if (static_cast<unsigned char>(whole[whole.size() - 1]) < 0x80) continue;
    BOOST_TEST(decode(whole.substr(0, whole.size() - 1)).fault.has_value());
  }
}

BOOST_AUTO_TEST_CASE(other_languages_encodings_do_not_pass_for_chinese) {
  const std::u32string japanese =
      U"これは日本語の文章です。新しい関数を呼び出すと、リストが返されます。東京は夜の七時。";
  const std::u32string korean = U"이것은 한국어 문장입니다. 새로운 함수를 호출하면 목록이 반환됩니다.";
  const std::u32string french = U"Voilà une phrase française où l'été s'achève déjà, là-bas, près de la forêt.";
  for (const auto& [name, text] :
       {std::pair{"Shift_JIS", japanese}, {"EUC-JP", japanese}, {"EUC-KR", korean}, {"ISO-8859-1", french}}) {
    const Decoded got = decode(Encoder(name)(text));
    BOOST_TEST(got.fault.has_value(), name << " read as " << got.text);
  }
}

BOOST_AUTO_TEST_CASE(a_replacement_character_is_refused_in_every_encoding) {
  for (const auto& [bytes, encoding, offset] :
       {std::tuple{utf8(U"中\uFFFD文"), Encoding::utf8, std::size_t{3}},
        {"\xD6\xD0" + std::string("\x84\x31\xA4\x37") + "\xCE\xC4", Encoding::gb18030, std::size_t{2}},
        {utf16(U"中\uFFFD文", false, true), Encoding::utf16, std::size_t{4}}}) {
    const Decoded got = as(encoding, bytes);
    BOOST_REQUIRE(got.fault.has_value());
    BOOST_TEST(got.fault->rule == "replacement_character");
    BOOST_TEST(got.fault->offset == offset);
  }
}

BOOST_AUTO_TEST_CASE(whatever_the_bytes_the_result_is_utf8_without_replacement) {
  std::uint64_t state = 1;
  const auto random = [&] {
    return static_cast<unsigned>((state = state * 6364136223846793005u + 1442695040888963407u) >> 33);
  };
  const std::string sound = Encoder("gb18030")(verse) + utf8(prose) + Encoder("Big5")(traditional_verse);
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = sound.substr(random() % sound.size(), random() % 60);
    for (unsigned n = random() % 4; n > 0 && !bytes.empty(); --n)
      bytes[random() % bytes.size()] = static_cast<char>(random());
    const Decoded got = decode(bytes);
    BOOST_REQUIRE(utf8_valid_prefix(got.text) == got.text.size());
    BOOST_REQUIRE(got.text.find("\xEF\xBF\xBD") == std::string::npos);
    if (got.fault) {
      BOOST_REQUIRE(got.text.empty());
      BOOST_REQUIRE(got.fault->offset <= bytes.size());
    }
  }
}

BOOST_AUTO_TEST_CASE(names_of_encodings_are_known) {
  for (const char* name : {"gbk", "GB2312", "gb_18030", "GB18030"})
    BOOST_TEST((encoding_of_name(name) == Encoding::gb18030));
  for (const char* name : {"Big5", "big5-hkscs"}) BOOST_TEST((encoding_of_name(name) == Encoding::big5));
  BOOST_TEST((encoding_of_name("UTF-8") == Encoding::utf8));
  BOOST_TEST(!encoding_of_name("shift_jis").has_value());
  BOOST_TEST(!encoding_of_name("").has_value());
}
