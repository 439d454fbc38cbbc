#include "data/tokenizer/pretokenizer.h"

#include <unicode/uchar.h>

#include <array>
#include <cstdint>
#include <vector>

#include "framework/base/check.h"

namespace dujiang::data {

namespace {

using Byte = unsigned char;

// What the expressions ask of a character, as bits.
constexpr Byte letter = 1, number = 2, mark = 4, symbol = 8 /* \p{P} and \p{S} */, space = 16 /* \s */, newline = 32,
               cjk = 64 /* DeepSeek-V3's [一-龥぀-ゟ゠-ヿ] */,
               mixed = 128 /* of lead bytes: look at the character */;

struct Range {
  char32_t first, last;
  Byte bits;
};

// Assigned by Unicode 15.1 and 16, which Hugging Face's expressions know and ICU 72 does not yet.
constexpr Range newer[] = {
    {0x897, 0x897, mark},       {0x1B4E, 0x1B4F, symbol},   {0x1B7F, 0x1B7F, symbol},   {0x1C89, 0x1C8A, letter},
    {0x2427, 0x2429, symbol},   {0x2FFC, 0x2FFF, symbol},   {0x31E4, 0x31E5, symbol},   {0x31EF, 0x31EF, symbol},
    {0xA7CB, 0xA7CD, letter},   {0xA7DA, 0xA7DC, letter},   {0x105C0, 0x105F3, letter}, {0x10D40, 0x10D49, number},
    {0x10D4A, 0x10D65, letter}, {0x10D69, 0x10D6D, mark},   {0x10D6E, 0x10D6E, symbol}, {0x10D6F, 0x10D85, letter},
    {0x10D8E, 0x10D8F, symbol}, {0x10EC2, 0x10EC4, letter}, {0x10EFC, 0x10EFC, mark},   {0x11380, 0x11389, letter},
    {0x1138B, 0x1138B, letter}, {0x1138E, 0x1138E, letter}, {0x11390, 0x113B5, letter}, {0x113B7, 0x113B7, letter},
    {0x113B8, 0x113C0, mark},   {0x113C2, 0x113C2, mark},   {0x113C5, 0x113C5, mark},   {0x113C7, 0x113CA, mark},
    {0x113CC, 0x113D0, mark},   {0x113D1, 0x113D1, letter}, {0x113D2, 0x113D2, mark},   {0x113D3, 0x113D3, letter},
    {0x113D4, 0x113D5, symbol}, {0x113D7, 0x113D8, symbol}, {0x113E1, 0x113E2, mark},   {0x116D0, 0x116E3, number},
    {0x11BC0, 0x11BE0, letter}, {0x11BE1, 0x11BE1, symbol}, {0x11BF0, 0x11BF9, number}, {0x11F5A, 0x11F5A, mark},
    {0x13460, 0x143FA, letter}, {0x16100, 0x1611D, letter}, {0x1611E, 0x1612F, mark},   {0x16130, 0x16139, number},
    {0x16D40, 0x16D6C, letter}, {0x16D6D, 0x16D6F, symbol}, {0x16D70, 0x16D79, number}, {0x18CFF, 0x18CFF, letter},
    {0x1CC00, 0x1CCEF, symbol}, {0x1CCF0, 0x1CCF9, number}, {0x1CD00, 0x1CEB3, symbol}, {0x1E5D0, 0x1E5ED, letter},
    {0x1E5EE, 0x1E5EF, mark},   {0x1E5F0, 0x1E5F0, letter}, {0x1E5F1, 0x1E5FA, number}, {0x1E5FF, 0x1E5FF, symbol},
    {0x1F8B2, 0x1F8BB, symbol}, {0x1F8C0, 0x1F8C1, symbol}, {0x1FA89, 0x1FA89, symbol}, {0x1FA8F, 0x1FA8F, symbol},
    {0x1FABE, 0x1FABE, symbol}, {0x1FAC6, 0x1FAC6, symbol}, {0x1FADC, 0x1FADC, symbol}, {0x1FADF, 0x1FADF, symbol},
    {0x1FAE9, 0x1FAE9, symbol}, {0x1FBCB, 0x1FBEF, symbol}, {0x2EBF0, 0x2EE5D, letter},
};

Byte bits_of(char32_t c) {
  const auto point = static_cast<UChar32>(c);
  const std::uint32_t category = U_GET_GC_MASK(point);
  if (category & U_GC_CN_MASK) {
    for (const Range& range : newer)
      if (range.first <= c && c <= range.last) return range.bits;
  }
  return static_cast<Byte>((category & U_GC_L_MASK ? letter : 0) | (category & U_GC_N_MASK ? number : 0) |
                           (category & U_GC_M_MASK ? mark : 0) | (category & (U_GC_P_MASK | U_GC_S_MASK) ? symbol : 0) |
                           (u_hasBinaryProperty(point, UCHAR_WHITE_SPACE) ? space : 0) |
                           (c == '\r' || c == '\n' ? newline : 0));
}

constexpr std::size_t size_of(Byte lead) {
  return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

}  // namespace

// Two stages by code point, and one step for lead bytes whose characters are all alike, as most Han are.
struct Pretokenizer::Classes {
  std::array<Byte, 256> leads{};
  std::array<std::uint16_t, 0x110000 / 128> blocks{};
  std::vector<std::array<Byte, 128>> bits;

  explicit Classes(bool with_cjk) {
    for (std::size_t block = 0; block < blocks.size(); ++block) {
      std::array<Byte, 128> found{};
      for (std::size_t i = 0; i < 128; ++i) {
        const auto c = static_cast<char32_t>(block * 128 + i);
        const bool in_cjk = (c >= 0x4E00 && c <= 0x9FA5) || (c >= 0x3040 && c <= 0x30FF);
        found[i] = static_cast<Byte>(bits_of(c) | (with_cjk && in_cjk ? cjk : 0));
        add_lead(c, found[i]);
      }
      std::size_t same = 0;
      while (same < bits.size() && bits[same] != found) ++same;
      if (same == bits.size()) bits.push_back(found);
      blocks[block] = static_cast<std::uint16_t>(same);
    }
  }

  void add_lead(char32_t c, Byte found) {
    if (c >= 0xD800 && c < 0xE000) return;
    if (c < 0x80) {
      leads[c] = found;
      return;
    }
    const char32_t lead = c < 0x800 ? 0xC0 | c >> 6 : c < 0x10000 ? 0xE0 | c >> 12 : 0xF0 | c >> 18;
    const bool first = c == 0x80 || c == 0x800 || c == 0x10000 ||
                       c % (c < 0x800     ? 64
                            : c < 0x10000 ? 4096
                                          : 262144) ==
                           0;
    if (first) leads[lead] = found;
    if (leads[lead] != found) leads[lead] = mixed;
  }

  Byte of(const Byte* at) const {
    const Byte lead = leads[*at];
    return lead != mixed ? lead : look_up(at);
  }

  Byte look_up(const Byte* at) const {
    const auto tail = [&](int i) { return static_cast<std::uint32_t>(at[i] & 0x3F); };
    const std::uint32_t c = *at < 0xE0   ? (*at & 0x1Fu) << 6 | tail(1)
                            : *at < 0xF0 ? (*at & 0x0Fu) << 12 | tail(1) << 6 | tail(2)
                                         : (*at & 0x07u) << 18 | tail(1) << 12 | tail(2) << 6 | tail(3);
    return bits[blocks[c >> 7]][c & 127];
  }
};

namespace {

// A place in the text, with the steps that the expressions are made of.
template <class Classes>
struct Scanner {
  const Classes& classes;
  const Byte* const end;
  const Byte region = 0;  // cjk or 0: a character outside of it is of no other kind than that

  Byte of(const Byte* at) const {
    const Byte bits = classes.of(at) ^ region;
    return bits & cjk ? cjk : bits;
  }
  bool is(const Byte* at, Byte any_of) const { return at < end && (of(at) & any_of) != 0; }
  bool is_none(const Byte* at, Byte none_of) const { return at < end && (of(at) & none_of) == 0; }
  const Byte* skip(const Byte* at, Byte any_of) const {
    for (;;) {
      while (at < end && *at < 0x80 && (classes.leads[*at] & any_of) && !region) ++at;
      if (!is(at, any_of)) return at;
      at += size_of(*at);
    }
  }
  const Byte* skip_none(const Byte* at, Byte none_of) const {
    while (is_none(at, none_of)) at += size_of(*at);
    return at;
  }
  const Byte* numbers(const Byte* at, int most) const {
    for (; most > 0 && is(at, number); --most) at += size_of(*at);
    return at;
  }

  // 's 't 're 've 'm 'll 'd, behind it; else nullptr. Without regard to case U+017F is an s too.
  const Byte* contraction(const Byte* at, bool any_case) const {
    if (*at != '\'' || at + 1 == end) return nullptr;
    const auto lower = [&](const Byte* p) { return any_case && *p >= 'A' && *p <= 'Z' ? Byte(*p + 32) : *p; };
    const Byte first = lower(at + 1);
    if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
    if (end - at < 3) return nullptr;
    if (any_case && first == 0xC5 && at[2] == 0xBF) return at + 3;
    const Byte second = lower(at + 2);
    const bool two = ((first == 'r' || first == 'v') && second == 'e') || (first == 'l' && second == 'l');
    return two ? at + 3 : nullptr;
  }

  // \s*[\r\n]+|\s+(?!\S)|\s+ at white space, the first of them only where `lines`; text ends at `stops` too.
  const Byte* white_space(const Byte* at, bool lines, Byte stops) const {
    const Byte *last = at, *behind_newline = nullptr, *p = at;
    for (Byte bits; p < end && ((bits = of(p)) & space); p += size_of(*p)) {
      last = p;
      if (bits & newline) behind_newline = p + 1;
    }
    if (lines && behind_newline) return behind_newline;
    return p == end || last == at || is(p, stops) ? p : last;
  }
};

}  // namespace

template <PretokenizerKind kind>
std::size_t Pretokenizer::scan(const Classes& classes, std::string_view text, std::size_t begin) {
  const Byte* const start = reinterpret_cast<const Byte*>(text.data());
  const Byte* const at = start + begin;
  const Scanner<Classes> s{classes, start + text.size(), static_cast<Byte>(classes.of(at) & cjk)};
  const auto offset = [&](const Byte* p) { return static_cast<std::size_t>(p - start); };
  const Byte bits = s.of(at);
  const Byte* const next = at + size_of(*at);
  const Byte* const behind_blank = *at == ' ' ? next : at;

  if constexpr (kind == PretokenizerKind::gpt2) {
    // 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
    if (const Byte* p = s.contraction(at, false)) return offset(p);
    if (s.is(behind_blank, letter)) return offset(s.skip(behind_blank, letter));
    if (s.is(behind_blank, number)) return offset(s.skip(behind_blank, number));
    if (s.is_none(behind_blank, space)) return offset(s.skip_none(behind_blank, space | letter | number));
    return offset(s.white_space(at, false, 0));
  } else if constexpr (kind == PretokenizerKind::deepseek_v3) {
    // \p{N}{1,3} cuts first, then [一-龥぀-ゟ゠-ヿ]+; each match and what is between them is text of its own for
    // the third:
    // [!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|
    // \s*[\r\n]+|\s+(?!\S)|\s+
    if (bits & number) return offset(s.numbers(at, 3));
    const auto is_latin = [&](const Byte* p) { return p < s.end && *p < 0x80 && (s.of(p) & letter); };
    if (*at < 0x80 && (bits & symbol) && is_latin(next)) {
      const Byte* p = next;
      while (is_latin(p)) ++p;
      return offset(p);
    }
    if (bits & (letter | mark)) return offset(s.skip(at, letter | mark));
    if (!(bits & (symbol | newline)) && s.is(next, letter | mark)) return offset(s.skip(next, letter | mark));
    if (s.is(behind_blank, symbol)) return offset(s.skip(s.skip(behind_blank, symbol), newline));
    if (bits & space) return offset(s.white_space(at, true, number | cjk));
    // No expression takes control characters and unassigned ones: they go up to the next match.
    const Byte* p = next;
    while (p < s.end && s.of(p) == 0 && !s.is(p + size_of(*p), letter | mark)) p += size_of(*p);
    return offset(p);
  } else {
    // (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|
    // \s+(?!\S)|\s+, and \p{N} alone with Qwen
    if (const Byte* p = s.contraction(at, true)) return offset(p);
    if (bits & letter) return offset(s.skip(at, letter));
    if (!(bits & (newline | number)) && s.is(next, letter)) return offset(s.skip(next, letter));
    if (bits & number) return offset(s.numbers(at, kind == PretokenizerKind::llama3 ? 3 : 1));
    if (s.is_none(behind_blank, space | letter | number)) {
      return offset(s.skip(s.skip_none(behind_blank, space | letter | number), newline));
    }
    return offset(s.white_space(at, true, 0));
  }
}

Pretokenizer::Pretokenizer(PretokenizerKind kind) : kind_(kind) {
  static const Classes plain(false), with_cjk(true);
  classes_ = kind == PretokenizerKind::deepseek_v3 ? &with_cjk : &plain;
  switch (kind) {
    case PretokenizerKind::gpt2:
      scan_ = scan<PretokenizerKind::gpt2>;
      break;
    case PretokenizerKind::llama3:
      scan_ = scan<PretokenizerKind::llama3>;
      break;
    case PretokenizerKind::qwen2:
      scan_ = scan<PretokenizerKind::qwen2>;
      break;
    case PretokenizerKind::deepseek_v3:
      scan_ = scan<PretokenizerKind::deepseek_v3>;
      break;
  }
}

bool is_word_char(char32_t c) {
  const auto point = static_cast<UChar32>(c);
  return u_hasBinaryProperty(point, UCHAR_ALPHABETIC) || u_hasBinaryProperty(point, UCHAR_JOIN_CONTROL) ||
         (U_GET_GC_MASK(point) & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) ||
         (u_charType(point) == U_UNASSIGNED && (bits_of(c) & (letter | mark | number)));
}

std::string_view name_of(PretokenizerKind kind) {
  switch (kind) {
    case PretokenizerKind::gpt2:
      return "gpt2";
    case PretokenizerKind::llama3:
      return "llama3";
    case PretokenizerKind::qwen2:
      return "qwen2";
    case PretokenizerKind::deepseek_v3:
      return "deepseek_v3";
  }
  fail("no such pre-tokenisation: {}", static_cast<int>(kind));
}

PretokenizerKind pretokenizer_kind(std::string_view name) {
  for (const auto kind :
       {PretokenizerKind::gpt2, PretokenizerKind::llama3, PretokenizerKind::qwen2, PretokenizerKind::deepseek_v3}) {
    if (name_of(kind) == name) return kind;
  }
  fail_user("pre-tokenisation \"{}\": there are gpt2, llama3, qwen2 and deepseek_v3", name);
}

}  // namespace dujiang::data
