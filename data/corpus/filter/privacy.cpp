#include "data/corpus/filter/privacy.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

namespace dujiang::data {
namespace {

constexpr std::array<std::string_view, private_kinds> rules{"mobile_number", "id_number",  "bank_card",
                                                            "email",         "ip_address", "qq_number"};
constexpr std::array<std::string_view, private_kinds> masks{"<手机号>", "<身份证号>", "<银行卡号>",
                                                            "<邮箱>",   "<IP地址>",   "<QQ号>"};
constexpr auto npos = std::string_view::npos;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_alpha(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool is_name(char c) {
  return is_digit(c) || is_alpha(c) || c == '_';
}

// Text whose full-width signs are ASCII, read from one digit or '@' to the next.
class Finder {
 public:
  Finder(std::string_view text, std::vector<PrivateHit>& hits) : text_(text), hits_(hits) {}

  /// False: there is a full-width digit or '@' and the text must be folded first.
  bool run() {
    enum : std::uint8_t { plain, digit, at, wide };
    static constexpr auto kinds = [] {
      std::array<std::uint8_t, 256> table{};
      for (int c = '0'; c <= '9'; ++c) table[static_cast<std::size_t>(c)] = digit;
      table['@'] = at;
      table[0xEF] = wide;
      return table;
    }();
    for (std::size_t pos = 0; pos < text_.size();) {
      const std::uint8_t kind = kinds[static_cast<unsigned char>(text_[pos])];
      if (kind == plain) {
        ++pos;
      } else if (kind == digit) {
        pos = number(pos);
      } else if (kind == at) {
        pos = email(pos);
      } else {
        const auto third = static_cast<unsigned char>(char_at(pos + 2));
        if (char_at(pos + 1) == '\xBC' && ((third >= 0x90 && third <= 0x99) || third == 0xA0)) return false;
        pos += 3;
      }
    }
    return true;
  }

 private:
  char char_at(std::size_t pos) const { return pos < text_.size() ? text_[pos] : '\0'; }
  std::size_t done() const { return hits_.empty() ? 0 : hits_.back().end; }
  std::size_t hit(PrivateKind kind, std::size_t begin, std::size_t end) {
    hits_.push_back({kind, begin, end});
    return end;
  }
  // Nothing before `begin` or from `end` on makes the number a part of something longer: letters, digits, decimals, the
  // parts of a number joined by '-', the local part of an address.
  bool stands_alone(std::size_t begin, std::size_t end) const {
    if (begin > 0) {
      const char before = text_[begin - 1];
      if (is_name(before)) return false;
      if ((before == '.' || before == '-' || before == ',') && begin > 1 && is_digit(text_[begin - 2])) return false;
    }
    const char after = char_at(end);
    if (is_name(after) || after == '@') return false;
    return !((after == '.' || after == '-' || after == ',') && is_digit(char_at(end + 1)));
  }

  // The end of digits in groups of these lengths, each pair joined by nothing, ' ' or '-'; npos when they aren't there.
  std::size_t groups(std::size_t pos, std::initializer_list<int> lengths, std::string* digits = nullptr) const {
    bool first = true;
    for (const int length : lengths) {
      if (!first && (char_at(pos) == ' ' || char_at(pos) == '-')) ++pos;
      first = false;
      for (int i = 0; i < length; ++i, ++pos) {
        if (!is_digit(char_at(pos))) return npos;
        if (digits) *digits += text_[pos];
      }
    }
    return pos;
  }

  // What begins with the digit at `pos`; the place to go on.
  std::size_t number(std::size_t pos) {
    std::size_t end = pos;
    while (is_digit(char_at(end))) ++end;
    if (end - pos >= 17 && end - pos <= 18 && id(pos)) return hit(PrivateKind::id_number, pos, pos + 18);
    if (const std::size_t last = card(pos, end); last != npos) return hit(PrivateKind::bank_card, pos, last);
    if (const auto [begin, last] = mobile(pos); last != npos) return hit(PrivateKind::mobile_number, begin, last);
    if (const std::size_t last = ip(pos); last != npos) return hit(PrivateKind::ip_address, pos, last);
    if (end - pos >= 5 && end - pos <= 11 && stands_alone(pos, end) && after_qq(pos)) {
      return hit(PrivateKind::qq_number, pos, end);
    }
    return end;
  }

  bool id(std::size_t pos) const {
    const std::string_view number = text_.substr(pos, 18);
    if (number.size() < 18 || !stands_alone(pos, pos + 18)) return false;
    const auto two = [&](std::size_t i) { return (number[i] - '0') * 10 + number[i + 1] - '0'; };
    constexpr std::string_view provinces =
        "11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 61 62 63 64 65 71 81 82 83 ";
    const std::size_t region = provinces.find(std::string(number.substr(0, 2)) + ' ');
    const int year = two(6) * 100 + two(8), month = two(10), day = two(12);
    const bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    constexpr std::array<int, 12> days{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (region == npos || year < 1900 || year > 2099 || month < 1 || month > 12 || day < 1) return false;
    if (day > days[static_cast<std::size_t>(month - 1)] + (month == 2 && leap)) return false;
    const char check = number[17] == 'x' ? 'X' : number[17];
    return check == id_check_digit(number.substr(0, 17));
  }

  std::size_t card(std::size_t pos, std::size_t end) const {
    std::string digits;
    if (end - pos >= 14 && end - pos <= 19) {
      digits = text_.substr(pos, end - pos);
    } else if (end - pos == 4) {
      // By fours, the last group of what is left, or American Express's 4-6-5.
      if (groups(pos, {4, 6, 5}) != npos) {
        end = groups(pos, {4, 6, 5}, &digits);
      } else if (groups(pos, {4, 4, 4}) != npos) {
        end = groups(pos, {4, 4, 4}, &digits);
        for (int more = 0; more < 2; ++more) {
          if ((char_at(end) != ' ' && char_at(end) != '-') || !is_digit(char_at(end + 1))) break;
          ++end;
          for (int i = 0; i < 4 && is_digit(char_at(end)); ++i) digits += text_[end++];
        }
      }
    }
    if (digits.empty() || !stands_alone(pos, end)) return npos;
    const auto first = [&](std::size_t n) { return std::stoi(digits.substr(0, n)); };
    const std::size_t n = digits.size();
    const bool union_pay = first(2) == 62 && n >= 16 && n <= 19;
    const bool visa = digits[0] == '4' && (n == 16 || n == 19);
    const bool master_card = n == 16 && ((first(2) >= 51 && first(2) <= 55) || (first(4) >= 2221 && first(4) <= 2720));
    const bool american_express = n == 15 && (first(2) == 34 || first(2) == 37);
    const bool jcb = n == 16 && first(4) >= 3528 && first(4) <= 3589;
    const bool diners = n == 14 && (first(2) == 36 || first(2) == 38 || (first(3) >= 300 && first(3) <= 305));
    const bool known = union_pay || visa || master_card || american_express || jcb || diners;
    return known && luhn(digits) ? end : npos;
  }

  // 1[3-9] and nine digits, in one or as 3-4-4, with +86, 0086 or 86 before it or not.
  std::pair<std::size_t, std::size_t> mobile(std::size_t pos) const {
    std::size_t begin = pos, first = pos;
    const std::string_view rest = text_.substr(pos, 4);
    const std::size_t prefix = rest.starts_with("0086") ? 4 : rest.starts_with("86") ? 2 : 0;
    if (prefix > 0) {
      first = pos + prefix;
      if (char_at(first) == ' ' || char_at(first) == '-') ++first;
      if (prefix == 2 && pos > done() && text_[pos - 1] == '+') --begin;
    }
    if (char_at(first) != '1' || char_at(first + 1) < '3' || char_at(first + 1) > '9') return {begin, npos};
    const std::size_t end = groups(first, {3, 4, 4});
    return {begin, end != npos && stands_alone(begin, end) ? end : npos};
  }

  std::size_t ip(std::size_t pos) const {
    const char before = pos > 0 ? text_[pos - 1] : '\0';
    if (is_name(before) || before == '.' || before == '-') return npos;
    const std::size_t end = std::min(text_.find_first_not_of("0123456789.", pos), text_.size());
    std::string token(text_.substr(pos, end - pos));
    std::size_t last = end;
    for (; !token.empty() && token.back() == '.'; --last) token.pop_back();
    in_addr v4;
    if (token.size() >= 7 && token.size() <= 15 && ::inet_pton(AF_INET, token.c_str(), &v4) == 1) {
      const bool longer = is_name(char_at(last)) || (char_at(last) == '-' && is_name(char_at(last + 1)));
      const std::uint32_t address = ntohl(v4.s_addr);
      return !longer && is_public(address) && !is_version(pos, last) && !is_outline(pos, address) ? last : npos;
    }
    if (text_[pos] != '2' && text_[pos] != '3') return npos;  // 2000::/3, all that is given out
    constexpr std::string_view hex = "0123456789abcdefABCDEF:";
    if (before == ':' && pos > 1 && hex.find(text_[pos - 2]) != npos) return npos;
    last = std::min(text_.find_first_not_of(hex, pos), text_.size());
    token = text_.substr(pos, last - pos);
    if (token.size() > 39 || std::count(token.begin(), token.end(), ':') < 3 || is_name(char_at(last))) return npos;
    if (token.back() == ':' && !token.ends_with("::")) token.pop_back(), --last;
    in6_addr v6;
    if (::inet_pton(AF_INET6, token.c_str(), &v6) != 1 || v6.s6_addr[0] >> 5 != 1) return npos;
    constexpr std::array<std::uint8_t, 4> documentation{0x20, 0x01, 0x0D, 0xB8};
    return std::equal(documentation.begin(), documentation.end(), v6.s6_addr) ? npos : last;
  }

  // Not of private networks, the machine itself, multicast or documentation.
  static bool is_public(std::uint32_t address) {
    constexpr std::array<std::pair<std::uint32_t, int>, 13> others{{{0x00000000, 8},
                                                                    {0x0A000000, 8},
                                                                    {0x64400000, 10},
                                                                    {0x7F000000, 8},
                                                                    {0xA9FE0000, 16},
                                                                    {0xAC100000, 12},
                                                                    {0xC0000000, 24},
                                                                    {0xC0000200, 24},
                                                                    {0xC0A80000, 16},
                                                                    {0xC6120000, 15},
                                                                    {0xC6336400, 24},
                                                                    {0xCB007100, 24},
                                                                    {0xE0000000, 3}}};
    return std::none_of(others.begin(), others.end(),
                        [&](const auto& net) { return (address ^ net.first) >> (32 - net.second) == 0; });
  }

  // "version 1.2.3.4", "v 1.2.3.4", "版本：1.2.3.4", "1.2.3.4 版": four numbers that name software.
  bool is_version(std::size_t begin, std::size_t end) const {
    std::string before(text_.substr(begin > 24 ? begin - 24 : 0, std::min<std::size_t>(begin, 24)));
    for (char& c : before) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    for (const std::string_view filler : {" ", ":", "：", "号", "=", "为", " ", "\"", "-", "/"}) {
      while (before.ends_with(filler)) before.resize(before.size() - filler.size());
    }
    for (const std::string_view word : {"version", "ver", "ver.", "版本", "版"}) {
      if (before.ends_with(word)) return true;
    }
    if (before.ends_with("v") && (before.size() == 1 || !is_name(before[before.size() - 2]))) return true;
    if (char_at(end) == ' ') ++end;
    return text_.substr(end).starts_with("版");
  }

  // "## 1.1.2.1 动态图": a heading's number, small parts at a line's beginning.
  bool is_outline(std::size_t begin, std::uint32_t address) const {
    constexpr std::uint32_t most = 31;
    for (int shift = 0; shift < 32; shift += 8) {
      if ((address >> shift & 0xFF) > most) return false;
    }
    while (begin > 0 && std::string_view(" \t#>*-").find(text_[begin - 1]) != npos) --begin;
    return begin == 0 || text_[begin - 1] == '\n';
  }

  bool after_qq(std::size_t pos) const {
    std::string_view before = text_.substr(pos > 24 ? pos - 24 : 0, std::min<std::size_t>(pos, 24));
    for (bool shorter = true; shorter;) {
      shorter = false;
      for (const std::string_view filler : {" ", ":", "：", "号", "码", "群", "是", "为"}) {
        if (before.ends_with(filler)) before.remove_suffix(filler.size()), shorter = true;
      }
    }
    if (!before.ends_with("QQ") && !before.ends_with("qq")) return false;
    return before.size() == 2 || !is_name(before[before.size() - 3]);
  }

  // The address around the '@' at `pos`; the place to go on.
  std::size_t email(std::size_t pos) {
    const auto is_local = [](char c) { return is_name(c) || c == '.' || c == '-' || c == '+' || c == '%'; };
    std::size_t begin = pos, end = pos + 1;
    while (begin > done() && is_local(text_[begin - 1]) && pos - begin < 64) --begin;
    while (begin < pos && !is_name(text_[begin])) ++begin;
    while (is_name(char_at(end)) || char_at(end) == '.' || char_at(end) == '-') ++end;
    while (end > pos + 1 && !is_name(text_[end - 1])) --end;
    const std::string_view domain = text_.substr(pos + 1, end - pos - 1);
    const std::size_t dot = domain.rfind('.');
    if (begin == pos || text_[pos - 1] == '.' || dot == npos || dot == 0 || domain.size() > 253) return pos + 1;
    if (domain.find("..") != npos || domain.find('_') != npos || !is_name(domain[0])) return pos + 1;
    const std::string_view top = domain.substr(dot + 1);
    // Names of files ("icon@2x.png") and of places for scp ("git@host.org:path").
    constexpr std::array<std::string_view, 14> files{"png", "jpg",     "jpeg", "gif", "svg",  "webp", "css",
                                                     "js",  "service", "json", "py",  "html", "md",   "sh"};
    if (top.size() < 2 || !std::all_of(top.begin(), top.end(), is_alpha)) return pos + 1;
    if (std::find(files.begin(), files.end(), top) != files.end()) return pos + 1;
    const char after = char_at(end + 1);
    if (char_at(end) == ':' && (is_name(after) || after == '$' || after == '{' || after == '/' || after == '~')) {
      return pos + 1;
    }
    // Reserved for examples (RFC 2606): nobody's.
    const auto within = [&](std::string_view name) {
      return domain.ends_with(name) && (domain.size() == name.size() || domain[domain.size() - name.size() - 1] == '.');
    };
    constexpr std::array<std::string_view, 6> nobody{"example.com", "example.org", "example.net",
                                                     "example",     "test",        "invalid"};
    if (std::any_of(nobody.begin(), nobody.end(), within)) return pos + 1;
    return hit(PrivateKind::email, begin, end);
  }

  std::string_view text_;
  std::vector<PrivateHit>& hits_;
};

// Full-width signs as ASCII; from[i]: where byte i of the result stood.
std::string folded(std::string_view text, std::vector<std::uint32_t>& from) {
  std::string out;
  from.clear();
  for (std::size_t pos = 0; pos < text.size();) {
    from.push_back(static_cast<std::uint32_t>(pos));
    const auto byte = [&](std::size_t i) {
      return pos + i < text.size() ? static_cast<unsigned char>(text[pos + i]) : 0;
    };
    if (byte(0) == 0xEF && (byte(1) == 0xBC || byte(1) == 0xBD)) {  // U+FF01 to U+FF5E: U+0021 to U+007E
      const int c = ((byte(1) & 0x3F) << 6 | (byte(2) & 0x3F)) - 0xF00 + 0x20;
      if (c >= 0x21 && c <= 0x7E) {
        out += static_cast<char>(c);
        pos += 3;
        continue;
      }
    }
    out += text[pos++];
  }
  from.push_back(static_cast<std::uint32_t>(text.size()));
  return out;
}

}  // namespace

std::string_view private_rule(PrivateKind kind) {
  return rules[static_cast<std::size_t>(kind)];
}
std::string_view private_mask(PrivateKind kind) {
  return masks[static_cast<std::size_t>(kind)];
}

char id_check_digit(std::string_view digits) {
  int sum = 0;
  for (std::size_t i = 0; i < 17; ++i) sum = (sum + (digits[i] - '0')) * 2 % 11;
  const int check = (12 - sum) % 11;
  return check == 10 ? 'X' : static_cast<char>('0' + check);
}

bool luhn(std::string_view digits) {
  int sum = 0;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    const int digit = digits[digits.size() - 1 - i] - '0';
    sum += i % 2 == 0 ? digit : digit < 5 ? digit * 2 : digit * 2 - 9;
  }
  return sum % 10 == 0;
}

void find_private(std::string_view text, std::vector<PrivateHit>& hits) {
  hits.clear();
  if (Finder(text, hits).run()) return;
  hits.clear();
  std::vector<std::uint32_t> from;
  const std::string ascii = folded(text, from);
  Finder(ascii, hits).run();
  for (auto& hit : hits) {
    hit.begin = from[hit.begin];
    hit.end = from[hit.end];
  }
}

PrivacyFilter::PrivacyFilter(std::span<const FilterProfile> profiles) {
  for (const auto& profile : profiles) actions_.push_back(profile.privacy);
}

std::optional<Rejection> PrivacyFilter::apply(TextDocument& document, Tally& tally) const {
  thread_local std::vector<PrivateHit> hits;
  thread_local std::string masked;
  find_private(document.text, hits);
  if (hits.empty()) return std::nullopt;
  const PrivacyActions& actions = actions_.at(document.source);
  masked.clear();
  std::size_t done = 0;
  for (const auto& [kind, begin, end] : hits) {
    const Action action = actions[static_cast<std::size_t>(kind)];
    if (action == Action::drop) {
      const auto count = std::count_if(hits.begin(), hits.end(), [&](const auto& hit) { return hit.kind == kind; });
      return Rejection{std::string(private_rule(kind)), static_cast<double>(count), 0,
                       "at byte " + std::to_string(begin)};
    }
    std::int64_t shorter = 0;
    if (action == Action::mask) {
      const std::string_view mask = private_mask(kind);
      masked.append(document.text, done, begin - done).append(mask);
      done = end;
      shorter = static_cast<std::int64_t>(end - begin) - static_cast<std::int64_t>(mask.size());
    }
    tally.took(private_rule(kind), 1, shorter);
  }
  if (done > 0) {
    masked.append(document.text, done);
    document.text.swap(masked);
  }
  return std::nullopt;
}

}  // namespace dujiang::data
