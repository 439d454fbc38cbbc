#include "data/text/decode.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "data/text/code_table.h"
#include "data/text/plausible.h"
#include "data/text/utf8.h"

namespace dujiang::data {
namespace {

constexpr std::string_view utf8_mark = "\xEF\xBB\xBF", gb18030_mark = "\x84\x31\x95\x33";
constexpr char32_t lost_character = 0xFFFD;
constexpr std::string_view lost_in_utf8 = "\xEF\xBF\xBD";
// Wrong decoders reach 0.1 (Big5 read as GB18030 and the other way round), verse and prose 0.6 and more; below this
// mean weight of the characters beyond ASCII a text isn't Chinese.
constexpr double least_score = 0.2;
// What a page's own charset is worth: more than the difference between two readings of a few characters.
constexpr double hint_bonus = 0.3;

// One reading of the bytes, up to where it fails.
struct Attempt {
  std::string text{};
  std::size_t good = 0;  // bytes that fit
  std::optional<std::size_t> lost{};
  double score = 0, kana = 0;  // means over the characters beyond ASCII
};

unsigned byte_at(std::string_view bytes, std::size_t i) {
  return i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0;
}

// The character at pos (beyond ASCII) and the bytes it takes; 0 bytes when there is none.
struct Character {
  char32_t c = 0;
  std::size_t bytes = 0;
};

Character next_gb18030(std::string_view bytes, std::size_t pos, const CodeTables& tables) {
  const unsigned lead = byte_at(bytes, pos), second = byte_at(bytes, pos + 1);
  if (lead < 0x81 || lead > 0xFE) return {};
  if (second >= 0x40 && second <= 0xFE && second != 0x7F)
    return {tables.gb_two[(lead - 0x81) * 190 + second - 0x40 - (second > 0x7F)], 2};
  const unsigned third = byte_at(bytes, pos + 2), fourth = byte_at(bytes, pos + 3);
  if (second < 0x30 || second > 0x39 || third < 0x81 || third > 0xFE || fourth < 0x30 || fourth > 0x39) return {};
  const std::size_t linear = (((lead - 0x81) * 10 + second - 0x30) * 126 + third - 0x81) * 10 + fourth - 0x30;
  if (linear < tables.gb_four.size()) return {tables.gb_four[linear], 4};
  constexpr std::size_t first_supplementary = 189000;  // 0x90308130
  if (linear < first_supplementary || linear > first_supplementary + 0xFFFFF) return {};
  return {static_cast<char32_t>(linear - first_supplementary + 0x10000), 4};
}

Character next_big5(std::string_view bytes, std::size_t pos, const CodeTables& tables) {
  const unsigned lead = byte_at(bytes, pos), trail = byte_at(bytes, pos + 1);
  const bool low = trail >= 0x40 && trail <= 0x7E, high = trail >= 0xA1 && trail <= 0xFE;
  if (lead < 0x81 || lead > 0xFE || !(low || high)) return {};
  const char32_t c = tables.big5[(lead - 0x81) * 157 + trail - (low ? 0x40 : 0x62)];
  return c == 0 ? Character{} : Character{c, 2};
}

template <class Next>
Attempt attempt(std::string_view bytes, Next next) {
  const CodeTables& tables = code_tables();
  Attempt out;
  out.text.reserve(bytes.size() + bytes.size() / 2);
  std::ptrdiff_t sum = 0, count = 0, kana = 0;
  std::size_t pos = 0;
  while (pos < bytes.size()) {
    if (static_cast<unsigned char>(bytes[pos]) < 0x80) {
      const std::size_t begin = pos;
      while (pos < bytes.size() && static_cast<unsigned char>(bytes[pos]) < 0x80) ++pos;
      out.text.append(bytes, begin, pos - begin);
      continue;
    }
    const Character character = next(bytes, pos, tables);
    if (character.bytes == 0) break;
    if (character.c == lost_character && !out.lost) out.lost = pos;
    append_utf8(out.text, character.c);
    sum += plausibility(character.c);
    kana += character.c >= 0x3041 && character.c <= 0x30FF;
    ++count;
    pos += character.bytes;
  }
  out.good = pos;
  const auto mean = [&](std::ptrdiff_t of) {
    return count == 0 ? 0 : static_cast<double>(of) / static_cast<double>(count);
  };
  out.score = mean(sum);
  out.kana = mean(kana);
  return out;
}

// As if each stretch of bytes that isn't UTF-8 were one bad character.
double score_of_damaged_utf8(std::string_view bytes) {
  std::ptrdiff_t sum = 0, count = 0;
  for (std::size_t pos = 0; pos < bytes.size();) {
    const std::size_t length = valid_char(bytes.substr(pos));
    if (length == 0) {
      --sum;
      ++count;
      for (++pos; pos < bytes.size() && (bytes[pos] & 0xC0) == 0x80;) ++pos;
    } else if (length == 1) {
      ++pos;
    } else {
      sum += plausibility(next_char(bytes, pos));
      ++count;
    }
  }
  return count == 0 ? 0 : static_cast<double>(sum) / static_cast<double>(count);
}

Decoded refuse(Encoding encoding, std::string rule, std::size_t offset, std::string message) {
  return {encoding, {}, DecodeFault{std::move(rule), offset, std::move(message)}};
}

Decoded bad_bytes(Encoding encoding, std::string_view bytes, std::size_t offset) {
  std::string message = fmt::format("not {} at byte offset {}", name_of(encoding), offset);
  message += offset < bytes.size() ? fmt::format(" (byte 0x{:02X})", byte_at(bytes, offset)) : " (cut short)";
  return refuse(encoding, "undecodable", offset, std::move(message));
}

Decoded lost(Encoding encoding, std::size_t offset) {
  return refuse(encoding, "replacement_character", offset,
                fmt::format("U+FFFD at byte offset {}: a character was lost before", offset));
}

Decoded take_utf8(std::string_view bytes, std::size_t valid) {
  const std::size_t skip = bytes.starts_with(utf8_mark) ? utf8_mark.size() : 0;
  if (valid != bytes.size()) return bad_bytes(Encoding::utf8, bytes, valid);
  const std::size_t found = bytes.find(lost_in_utf8);
  if (found != bytes.npos) return lost(Encoding::utf8, found);
  return {Encoding::utf8, std::string(bytes.substr(skip)), {}};
}

Decoded take_utf16(std::string_view bytes, Utf16Order order) {
  const bool marked = bytes.starts_with("\xFF\xFE") || bytes.starts_with("\xFE\xFF");
  const std::size_t skip = marked ? 2 : 0;
  std::string text;
  Utf16Transcoder transcoder(order);
  transcoder.append(bytes.substr(skip), text);
  const bool whole = transcoder.finish(text);
  const auto offset_of = [&](std::size_t at) {
    return skip + Utf16Transcoder::source_bytes(std::string_view(text).substr(0, at));
  };
  const std::size_t valid = utf8_valid_prefix(text);
  if (valid != text.size()) return bad_bytes(Encoding::utf16, bytes, offset_of(valid));
  if (!whole) return bad_bytes(Encoding::utf16, bytes, bytes.size() - 1);
  const std::size_t found = text.find(lost_in_utf8);
  if (found != text.npos) return lost(Encoding::utf16, offset_of(found));
  return {Encoding::utf16, std::move(text), {}};
}

Decoded take(Encoding encoding, std::string_view bytes, Attempt&& reading) {
  if (reading.good != bytes.size()) return bad_bytes(encoding, bytes, reading.good);
  if (reading.lost) return lost(encoding, *reading.lost);
  if (encoding == Encoding::gb18030 && bytes.starts_with(gb18030_mark)) reading.text.erase(0, utf8_mark.size());
  return {encoding, std::move(reading.text), {}};
}

Decoded decode_as(Encoding encoding, std::string_view bytes) {
  switch (encoding) {
    case Encoding::utf8:
      return take_utf8(bytes, utf8_valid_prefix(bytes));
    case Encoding::utf16:
      return take_utf16(bytes, utf16_order(bytes).value_or(Utf16Order::little));
    case Encoding::gb18030:
      return take(encoding, bytes, attempt(bytes, next_gb18030));
    case Encoding::big5:
      return take(encoding, bytes, attempt(bytes, next_big5));
  }
  return {};
}

}  // namespace

Decoded decode(std::string_view bytes, const DecodeHint& hint) {
  if (hint.encoding && hint.certain) return decode_as(*hint.encoding, bytes);
  if (const auto order = utf16_order(bytes)) return take_utf16(bytes, *order);
  const std::size_t valid = utf8_valid_prefix(bytes);
  if (valid == bytes.size() || bytes.starts_with(utf8_mark)) return take_utf8(bytes, valid);
  if (bytes.starts_with(gb18030_mark)) return decode_as(Encoding::gb18030, bytes);

  Attempt gb18030 = attempt(bytes, next_gb18030), big5 = attempt(bytes, next_big5);
  const auto worth = [&](Encoding encoding, double score) {
    return score + (hint.encoding == encoding ? hint_bonus : 0);
  };
  const double as_utf8 = worth(Encoding::utf8, score_of_damaged_utf8(bytes));
  const double as_gb18030 = worth(Encoding::gb18030, gb18030.score), as_big5 = worth(Encoding::big5, big5.score);
  const bool gb18030_valid = gb18030.good == bytes.size(), big5_valid = big5.good == bytes.size();
  // A reading that fails may yet be the right one of damaged bytes: then it must not give way to a wrong one.
  // UTF-8 is the least likely of all by chance: half of its characters fitting is much.
  if (as_utf8 >= 0 && as_utf8 >= std::max(as_gb18030, as_big5)) return bad_bytes(Encoding::utf8, bytes, valid);
  const bool prefer_big5 = as_big5 > as_gb18030 && (big5_valid || !gb18030_valid || big5.good > bytes.size() / 2);
  const Encoding best = prefer_big5 ? Encoding::big5 : Encoding::gb18030;
  // EUC-JP has GB's rows of kana, and Big5 its commonest characters in one of them.
  const bool japanese = gb18030.kana > 0.3 && big5.score < 0.5;
  if (!japanese && (prefer_big5 ? as_big5 : as_gb18030) >= least_score)
    return take(best, bytes, std::move(prefer_big5 ? big5 : gb18030));
  const auto read_until = [&](const Attempt& reading) {
    return reading.good == bytes.size() ? "not plausible" : fmt::format("invalid at {}", reading.good);
  };
  return refuse(best, "implausible_encoding", valid,
                fmt::format("not UTF-8 at byte offset {} (byte 0x{:02X}), and no plausible Chinese in another encoding "
                            "(GB18030: {}, Big5: {})",
                            valid, byte_at(bytes, valid), read_until(gb18030), read_until(big5)));
}

std::optional<Encoding> encoding_of_name(std::string_view name) {
  std::string key;
  for (const char c : name) {
    if (c != '-' && c != '_' && c != ' ') key += c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
  }
  constexpr std::array<std::pair<std::string_view, Encoding>, 13> names{{{"utf8", Encoding::utf8},
                                                                         {"utf16", Encoding::utf16},
                                                                         {"utf16le", Encoding::utf16},
                                                                         {"utf16be", Encoding::utf16},
                                                                         {"gb18030", Encoding::gb18030},
                                                                         {"gbk", Encoding::gb18030},
                                                                         {"gb2312", Encoding::gb18030},
                                                                         {"euccn", Encoding::gb18030},
                                                                         {"cp936", Encoding::gb18030},
                                                                         {"big5", Encoding::big5},
                                                                         {"big5hkscs", Encoding::big5},
                                                                         {"cp950", Encoding::big5},
                                                                         {"xxbig5", Encoding::big5}}};
  const auto found = std::find_if(names.begin(), names.end(), [&](const auto& entry) { return entry.first == key; });
  return found == names.end() ? std::nullopt : std::optional(found->second);
}

std::string_view name_of(Encoding encoding) {
  constexpr std::string_view names[] = {"UTF-8", "UTF-16", "GB18030", "Big5"};
  return names[static_cast<int>(encoding)];
}

}  // namespace dujiang::data
