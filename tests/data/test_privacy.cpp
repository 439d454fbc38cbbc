#include "data/corpus/filter/privacy.h"

#include "tests/data/filter_cases.h"

using namespace dujiang::data;
using namespace dujiang::test;

namespace {

std::string masked(std::string text) {
  return run<PrivacyFilter>(FilterProfile{}, std::move(text)).text;
}

// What is found, by kind and text.
std::vector<std::pair<PrivateKind, std::string>> found(const std::string& text) {
  std::vector<PrivateHit> hits;
  find_private(text, hits);
  std::vector<std::pair<PrivateKind, std::string>> out;
  for (const auto& [kind, begin, end] : hits) out.emplace_back(kind, text.substr(begin, end - begin));
  return out;
}

bool finds(PrivateKind kind, const std::string& what, const std::string& before = "他的是",
           const std::string& after = "，记住") {
  const auto hits = found(before + what + after);
  return hits.size() == 1 && hits[0].first == kind && hits[0].second == what;
}

std::string digits(Random& random, int n) {
  std::string out;
  for (int i = 0; i < n; ++i) out += static_cast<char>('0' + draw(random, 10));
  return out;
}

std::string id_number(Random& random) {
  static const std::vector<std::string> regions{"110101", "510107", "440304", "310115", "650102", "830000"};
  std::string id = regions[static_cast<std::size_t>(draw(random, static_cast<int>(regions.size())))];
  const auto two = [](int n) { return std::string{static_cast<char>('0' + n / 10), static_cast<char>('0' + n % 10)}; };
  id += std::to_string(1930 + draw(random, 90)) + two(1 + draw(random, 12)) + two(1 + draw(random, 28)) +
        digits(random, 3);
  return id + id_check_digit(id);
}

// A number with Luhn's last digit.
std::string card_number(Random& random, std::string prefix, int length) {
  prefix += digits(random, length - 1 - static_cast<int>(prefix.size()));
  for (char last = '0'; last <= '9'; ++last) {
    if (luhn(prefix + last)) return prefix + last;
  }
  BOOST_FAIL("no check digit");
  return {};
}

std::string wide(const std::string& ascii) {
  std::string out;
  for (const char c : ascii) append_utf8(out, static_cast<char32_t>(c - 0x20 + 0xFF00));
  return out;
}

}  // namespace

BOOST_AUTO_TEST_CASE(check_digits_are_those_of_the_standards) {
  BOOST_TEST(id_check_digit("11010519491231002") == 'X');  // GB 11643-1999's own example
  BOOST_TEST(id_check_digit("44052418800101001") == '4');  // its other one
  BOOST_TEST(luhn("79927398713"));                         // ISO/IEC 7812's usual example
  for (const char* wrong : {"79927398710", "79927398711", "79927398719"}) BOOST_TEST(!luhn(wrong));
}

BOOST_AUTO_TEST_CASE(every_wrong_digit_and_every_swap_unmakes_an_id_number) {
  Random random(3);
  for (int round = 0; round < 200; ++round) {
    const std::string id = id_number(random);
    BOOST_TEST(finds(PrivateKind::id_number, id), id);
    for (std::size_t i = 0; i < 18; ++i) {
      for (const char c : std::string_view("0123456789X")) {
        std::string wrong = id;
        wrong[i] = c;
        if (c == id[i] || (c == 'X' && i < 17)) continue;
        for (const auto& [kind, what] : found(wrong)) BOOST_TEST((kind != PrivateKind::id_number), wrong);
      }
      std::string swapped = id;
      if (i < 17 && id[i] != id[i + 1] && id[i + 1] != 'X') {
        std::swap(swapped[i], swapped[i + 1]);
        for (const auto& [kind, what] : found(swapped)) BOOST_TEST((kind != PrivateKind::id_number), swapped);
      }
    }
  }
  // Right check digits, and no such day or region.
  for (std::string id : {"51010719900230123", "51010719901301123", "99010719900101123", "51010717900101123",
                         "51010719900100123", "51010719000229123"}) {
    id += id_check_digit(id);
    BOOST_TEST(found(id).empty(), id);
  }
  std::string leap = "51010720000229123";
  leap += id_check_digit(leap);
  BOOST_TEST(finds(PrivateKind::id_number, leap));
  BOOST_TEST(finds(PrivateKind::id_number, "11010519491231002x"));
}

BOOST_AUTO_TEST_CASE(every_wrong_digit_unmakes_a_card_number) {
  Random random(4);
  struct Issuer {
    const char* prefix;
    int length;
  };
  for (const auto& [prefix, length] : std::vector<Issuer>{{"62", 16},
                                                          {"622202", 19},
                                                          {"62", 17},
                                                          {"4", 16},
                                                          {"51", 16},
                                                          {"55", 16},
                                                          {"2221", 16},
                                                          {"2720", 16},
                                                          {"34", 15},
                                                          {"37", 15},
                                                          {"3528", 16},
                                                          {"36", 14}}) {
    for (int round = 0; round < 20; ++round) {
      const std::string card = card_number(random, prefix, length);
      if (length == 18 && found(card)[0].first == PrivateKind::id_number) continue;
      BOOST_TEST(finds(PrivateKind::bank_card, card), card);
      for (std::size_t i = 0; i < card.size(); ++i) {
        for (char c = '0'; c <= '9'; ++c) {
          std::string wrong = card;
          wrong[i] = c;
          if (c != card[i]) BOOST_TEST(found(wrong).empty(), wrong);
        }
      }
      if (length < 16) continue;
      for (const char separator : {' ', '-'}) {
        std::string grouped;
        for (std::size_t i = 0; i < card.size(); ++i) {
          if (i > 0 && i % 4 == 0) grouped += separator;
          grouped += card[i];
        }
        BOOST_TEST(finds(PrivateKind::bank_card, grouped), grouped);
      }
    }
  }
  BOOST_TEST(finds(PrivateKind::bank_card, "3782 822463 10005"));
  // Luhn's digit alone is not enough: no issuer has these.
  for (const auto& [prefix, length] :
       std::vector<Issuer>{{"97", 16}, {"56", 16}, {"2721", 16}, {"62", 15}, {"4", 13}, {"1", 16}, {"978", 13}}) {
    BOOST_TEST(found(card_number(random, prefix, length)).empty(), prefix);
  }
}

BOOST_AUTO_TEST_CASE(mobile_numbers_are_found_in_the_ways_they_are_written) {
  for (const char* what : {"13800138000", "138-0013-8000", "138 0013 8000", "+8613912345678", "+86 139 1234 5678",
                           "+86-19912345678", "008613712345678", "8615012345678", "86-186-1234-5678"}) {
    BOOST_TEST(finds(PrivateKind::mobile_number, what), what);
    BOOST_TEST(finds(PrivateKind::mobile_number, what, "", ""), what);
    BOOST_TEST(finds(PrivateKind::mobile_number, what, "tel: ", ". "), what);
    BOOST_TEST(
        finds(PrivateKind::mobile_number,
              wide(what).find(' ') == std::string::npos && std::string(what).find(' ') == std::string::npos ? wide(what)
                                                                                                            : what),
        what);
  }
  BOOST_TEST(found("13800138000 13900139000、13700137000").size() == 3u);
  for (const char* what : {"12800138000", "1380013800", "138001380001", "2138001380001", "a13800138000", "13800138000b",
                           "0.13800138000", "13800138000.5", "20230115138001380001", "138-00-138000", "1380-0138-000",
                           "13800138000-1", "id_13800138000", "400-138-0013-8000"}) {
    BOOST_TEST(found(what).empty(), what);
  }
}

BOOST_AUTO_TEST_CASE(numbers_that_are_nobodys_stay) {
  const std::string text =
      "时间戳 1609459200 与 1609459200000，订单 20230115138001380001，版本 v1.2.3.4、version 10.0.19041.1、2.3.4.5 "
      "版，书号 "
      "978-7-111-54742-6 与 9787111547426，圆周率 3.14159265358979，金额 13,800,138,000.00，日期 2023-01-15 12:30:45，"
      "电话 010-62345678，邮编 610000，散列 d41d8cd98f00b204e9800998ecf8427e，坐标 "
      "30.657,104.066，a@b、@某人、user@host、"
      "icon@2x.png、pkg@1.2.3、git@github.com:a/"
      "b.git、std::vector、10.0.0.1、127.0.0.1、192.168.1.1、172.16.0.1、0.0.0.0、"
      "255.255.255.0、256.1.1.1、1.2.3、1.2.3.4.5、08.8.8.8、12:30:45、fe80::1、::1、a::b、2001:db8::1、me@example."
      "com\n"
      "## 1.1.2.1 动态图\n";
  BOOST_TEST(masked(text) == text);
}

BOOST_AUTO_TEST_CASE(addresses_are_found) {
  for (const char* what :
       {"zhang.san@163.com", "12345678@qq.com", "13800138000@139.com", "a_b+c@mail.tsinghua.edu.cn", "X@Y-z.org"}) {
    BOOST_TEST(finds(PrivateKind::email, what), what);
    BOOST_TEST(finds(PrivateKind::email, what, "<", ">"), what);
    BOOST_TEST(finds(PrivateKind::email, what, "mail: ", ". "), what);
  }
  BOOST_TEST(finds(PrivateKind::email, wide("abc") + "＠163.com"));
  for (const char* what :
       {"8.8.8.8", "114.114.114.114", "202.96.128.86", "2400:3200::1", "2001:4860:4860:0:0:0:0:8888"}) {
    BOOST_TEST(finds(PrivateKind::ip_address, what), what);
    BOOST_TEST(finds(PrivateKind::ip_address, what, "IP:", "\n"), what);
    BOOST_TEST(finds(PrivateKind::ip_address, what, "地址：", "."), what);
  }
  BOOST_TEST(finds(PrivateKind::ip_address, "8.8.4.4", "http://", ":80/"));
  for (const char* before : {"QQ：", "QQ号：", "qq ", "QQ群: ", "加我QQ号码是"})
    BOOST_TEST(finds(PrivateKind::qq_number, "12345678", before), before);
  for (const char* before : {"", "邮编", "ABQQ", "QQ音乐"})
    BOOST_TEST(found(before + std::string("12345678")).empty(), before);
}

BOOST_AUTO_TEST_CASE(each_action_does_what_it_says) {
  const std::string text = "电话13800138000，邮箱a.b@163.com，再打13900139000。";
  FilterProfile profile;
  Outcome outcome = run<PrivacyFilter>(profile, text);
  BOOST_TEST(outcome.text == "电话<手机号>，邮箱<邮箱>，再打<手机号>。");
  BOOST_TEST(outcome.hits("mobile_number") == 2);
  BOOST_TEST(outcome.hits("email") == 1);
  BOOST_TEST(masked(outcome.text) == outcome.text);
  profile.privacy.fill(Action::keep);
  outcome = run<PrivacyFilter>(profile, text);
  BOOST_TEST(outcome.text == text);
  BOOST_TEST(outcome.hits("mobile_number") == 2);
  profile.privacy[static_cast<std::size_t>(PrivateKind::email)] = Action::drop;
  outcome = run<PrivacyFilter>(profile, text);
  BOOST_TEST(outcome.rule() == "email");
  BOOST_TEST(outcome.why->value == 1);
  BOOST_TEST(outcome.why->detail == "at byte 26");
  BOOST_TEST(outcome.hits("mobile_number") == 0);
}

BOOST_AUTO_TEST_CASE(any_text_is_gone_through_whole) {
  Random random(5);
  const std::vector<std::string> pieces{"1",  "3", "8",  "0",  "86", "+",  "-",  " ",    ".",  ":", "@",   "a",
                                        "QQ", "X", "，", "１", "＠", "𠀀", "62", "2400", "::", "v", "com", "\n"};
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (int i = draw(random, 40); i > 0; --i)
      text += pieces[static_cast<std::size_t>(draw(random, static_cast<int>(pieces.size())))];
    std::vector<PrivateHit> hits;
    find_private(text, hits);
    std::size_t done = 0;
    for (const auto& [kind, begin, end] : hits) {
      BOOST_REQUIRE(begin >= done && end > begin && end <= text.size());
      done = end;
    }
    const std::string out = masked(text);  // the account is checked there
    BOOST_REQUIRE(utf8_valid_prefix(out) == out.size());
  }
}
