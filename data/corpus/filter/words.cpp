#include "data/corpus/filter/words.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <tuple>
#include <unordered_map>

#include "data/text/utf8.h"
#include "framework/base/check.h"

namespace dujiang::data {
namespace {

// Reads text as the automaton does: bytes in lower case and ASCII width, white space and zero-width characters left
// out. feed(byte, begin of its character) for each byte, `end` of the character after its last.
template <class Feed>
void fold(std::string_view text, Feed&& feed) {
  enum : std::uint8_t { plain, upper, blank, c2, e2, e3, ef };
  static constexpr auto kinds = [] {
    std::array<std::uint8_t, 256> table{};
    for (int c = 'A'; c <= 'Z'; ++c) table[static_cast<std::size_t>(c)] = upper;
    for (const int c : {' ', '\t', '\r'}) table[static_cast<std::size_t>(c)] = blank;
    table[0xC2] = c2;
    table[0xE2] = e2;
    table[0xE3] = e3;
    table[0xEF] = ef;
    return table;
  }();
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  for (std::size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    switch (kinds[c]) {
      case plain:
        feed(c, i, i + 1);
        ++i;
        continue;
      case upper:
        feed(static_cast<unsigned char>(c + 32), i, i + 1);
        ++i;
        continue;
      case blank:
        ++i;
        continue;
      case c2:  // no-break space
        if (byte(i + 1) == 0xA0) {
          i += 2;
          continue;
        }
        break;
      case e2:  // U+2000 to U+200D
        if (byte(i + 1) == 0x80 && byte(i + 2) <= 0x8D) {
          i += 3;
          continue;
        }
        break;
      case e3:  // U+3000
        if (byte(i + 1) == 0x80 && byte(i + 2) == 0x80) {
          i += 3;
          continue;
        }
        break;
      case ef: {  // U+FEFF; U+FF01 to U+FF5E
        if (byte(i + 1) == 0xBB && byte(i + 2) == 0xBF) {
          i += 3;
          continue;
        }
        const unsigned ascii = ((byte(i + 1) & 0x3F) << 6 | (byte(i + 2) & 0x3F)) + 0x20 - 0xF00;
        if (byte(i + 1) >= 0xBC && ascii >= 0x21 && ascii <= 0x7E) {
          feed(static_cast<unsigned char>(ascii >= 'A' && ascii <= 'Z' ? ascii + 32 : ascii), i, i + 3);
          i += 3;
          continue;
        }
        break;
      }
    }
    feed(c, i, i + 1);
    ++i;
  }
}

bool is_alnum(unsigned char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool is_rule(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  });
}

}  // namespace

WordFilter::WordFilter(std::vector<WordListConfig> lists) : lists_(std::move(lists)) {
  std::unordered_map<std::string, std::uint32_t> known;
  std::vector<Entry> more;
  for (std::uint32_t list = 0; list < lists_.size(); ++list) {
    const auto& [name, path, action, density, by_word] = lists_[list];
    if (!is_rule(name)) fail_user("words: a list's name is made of a to z, 0 to 9 and _, found \"{}\"", name);
    if (std::any_of(lists_.begin(), lists_.begin() + list, [&](const auto& other) { return other.name == name; })) {
      fail_user("words: two lists are named {}", name);
    }
    if (!(density >= 0)) fail_user("words: {}: max_density must not be negative, found {}", name, density);
    std::ifstream file(path);
    if (!file) fail_user("{}: can't be read: {}", path, std::strerror(errno));
    std::string line;
    std::size_t number = 0, found = 0;
    while (std::getline(file, line)) {
      ++number;
      if (utf8_valid_prefix(line) != line.size()) fail_user("{}: line {} isn't UTF-8", path, number);
      if (line.starts_with('#')) continue;
      std::string word;
      fold(line, [&](unsigned char c, std::size_t, std::size_t) { word += static_cast<char>(c); });
      if (word.empty()) continue;
      ++found;
      longest_ = std::max(longest_, word.size());
      const auto [entry, is_new] = known.emplace(word, static_cast<std::uint32_t>(words_.size()));
      if (is_new) {
        words_.push_back(word);
        entries_.push_back({list, AhoCorasick::none});
      } else {
        more.push_back({list, entry->second});
      }
    }
    if (file.bad()) fail_user("{}: reading failed: {}", path, std::strerror(errno));
    if (found == 0) fail_user("{}: no words: a list has one a line", path);
  }
  for (const auto& [list, word] : more) {
    std::uint32_t last = word;
    while (entries_[last].list != list && entries_[last].next != AhoCorasick::none) last = entries_[last].next;
    if (entries_[last].list == list) continue;  // twice in one list
    entries_[last].next = static_cast<std::uint32_t>(entries_.size());
    entries_.push_back({list, AhoCorasick::none});
  }
  automaton_ = std::make_unique<AhoCorasick>(words_);
}

void WordFilter::find(std::string_view text, std::vector<Hit>& hits) const {
  hits.clear();
  // Where the last bytes that were fed began: as many as the longest word has.
  thread_local std::vector<std::size_t> begins;
  begins.resize(std::max(begins.size(), std::bit_ceil(longest_)));
  const std::size_t mask = begins.size() - 1;
  std::size_t fed = 0;
  std::uint32_t state = AhoCorasick::root;
  fold(text, [&](unsigned char c, std::size_t begin, std::size_t end) {
    begins[fed++ & mask] = begin;
    state = automaton_->next(state, c);
    if (!automaton_->any_at(state)) return;
    automaton_->words_at(state, [&](std::uint32_t word) {
      const std::string& found = words_[word];
      const std::size_t first = begins[(fed - found.size()) & mask];
      if (is_alnum(static_cast<unsigned char>(found[0])) && first > 0 &&
          is_alnum(static_cast<unsigned char>(text[first - 1]))) {
        return;
      }
      if (is_alnum(c) && end < text.size() && is_alnum(static_cast<unsigned char>(text[end]))) return;
      for (std::uint32_t e = word; e != AhoCorasick::none; e = entries_[e].next) {
        hits.push_back({entries_[e].list, word, first, end});
      }
    });
  });
}

std::optional<Rejection> WordFilter::apply(TextDocument& document, Tally& tally) const {
  thread_local std::vector<Hit> hits;
  std::string& text = document.text;
  find(text, hits);
  if (hits.empty()) return std::nullopt;
  std::vector<std::int64_t> counts(lists_.size());
  for (const Hit& hit : hits) ++counts[hit.list];
  const auto chars = static_cast<double>(count_chars(text));
  for (std::size_t i = 0; i < lists_.size(); ++i) {
    const auto count = static_cast<double>(counts[i]);
    const auto first = [&] {
      return words_[std::find_if(hits.begin(), hits.end(), [&](const Hit& hit) { return hit.list == i; })->word];
    };
    if (lists_[i].action == Action::drop && counts[i] > 0) return Rejection{lists_[i].name, count, 0, first()};
    if (count * 1000 > lists_[i].max_density * chars) {
      return Rejection{lists_[i].name, count * 1000 / chars, lists_[i].max_density, first() + ", per 1,000 characters"};
    }
  }
  // Pieces to cut out, each for one list: whole lines first, then the widest; what lies within another is that one's.
  struct Cut {
    std::size_t begin, end;
    std::uint32_t list;
    bool line;
  };
  std::vector<Cut> cuts;
  for (const Hit& hit : hits) {
    const auto& list = lists_[hit.list];
    tally.took(list.name, 1, 0);
    if (list.by_word) tally.took(list.name + ":" + words_[hit.word], 1, 0);
    if (list.action == Action::mask) cuts.push_back({hit.begin, hit.end, hit.list, false});
    if (list.action != Action::drop_line) continue;
    const std::size_t before = text.rfind('\n', hit.begin), after = text.find('\n', hit.end - 1);
    const std::size_t begin = before == text.npos ? 0 : before + 1;
    cuts.push_back({begin, after == text.npos ? text.size() : after + 1, hit.list, true});
  }
  if (cuts.empty()) return std::nullopt;
  std::sort(cuts.begin(), cuts.end(), [](const Cut& a, const Cut& b) {
    return std::tuple(a.begin, !a.line, -static_cast<std::ptrdiff_t>(a.end), a.list) <
           std::tuple(b.begin, !b.line, -static_cast<std::ptrdiff_t>(b.end), b.list);
  });
  std::string out;
  std::size_t done = 0;
  for (std::size_t i = 0; i < cuts.size();) {
    Cut cut = cuts[i++];
    // Masks that overlap become one; a line takes what lies within it, and nothing reaches over its ends.
    for (; i < cuts.size() && cuts[i].begin < cut.end; ++i) cut.end = std::max(cut.end, cuts[i].end);
    out.append(text, done, cut.begin - done);
    done = cut.end;
    const std::string_view put = cut.line ? std::string_view{} : word_mask;
    out += put;
    tally.took(lists_[cut.list].name, 0,
               static_cast<std::int64_t>(cut.end - cut.begin) - static_cast<std::int64_t>(put.size()));
  }
  out.append(text, done);
  text.swap(out);
  return std::nullopt;
}

}  // namespace dujiang::data
