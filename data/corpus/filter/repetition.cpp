#include "data/corpus/filter/repetition.h"

#include <xxhash.h>

#include <algorithm>

#include "data/text/char_class.h"
#include "data/text/utf8.h"

namespace dujiang::data {
namespace {

// 64-bit keys numbered in order of their first appearance. Cleared in O(1), grows with the largest document.
class Numbering {
 public:
  void clear(std::size_t most_keys) {
    std::size_t size = 16;
    while (size < most_keys * 2) size *= 2;
    if (slots_.size() < size) slots_.assign(size, {}), round_ = 0;
    mask_ = size - 1;
    if (++round_ == 0) slots_.assign(slots_.size(), {}), round_ = 1;
    count_ = 0;
  }
  std::uint32_t operator()(std::uint64_t key) {
    for (std::size_t i = key * 0x9E3779B97F4A7C15ull >> 29;; ++i) {
      Slot& slot = slots_[i & mask_];
      if (slot.round != round_) {
        slot = {key, round_, count_};
        return count_++;
      }
      if (slot.key == key) return slot.number;
    }
  }
  std::uint32_t count() const { return count_; }

 private:
  struct Slot {
    std::uint64_t key = 0;
    std::uint32_t round = 0, number = 0;
  };
  std::vector<Slot> slots_;
  std::size_t mask_ = 0;
  std::uint32_t round_ = 0, count_ = 0;
};

// What is used from document to document.
struct Scratch {
  Numbering number;
  std::vector<std::uint32_t> symbols;  // of units
  std::vector<std::uint32_t> starts;   // characters before each unit, and in all
  std::vector<std::uint32_t> at;       // units where an n-gram begins that may occur twice, ascending
  std::vector<std::uint32_t> gram;     // the number of each
  std::vector<std::uint32_t> times;    // by number
  std::vector<std::uint64_t> chars;    // by number: characters in all of its places
};

void read_units(std::string_view text, Scratch& scratch) {
  const auto& classes = CharClasses::get();
  auto& [number, symbols, starts, at, gram, times, chars] = scratch;
  symbols.clear();
  starts.clear();
  std::uint32_t count = 0;
  std::uint64_t word = 0;  // hash of the word so far; 0: in none
  char32_t before = 0;     // the sign before, 0 for anything else
  const auto end_word = [&] {
    if (word != 0) symbols.back() = static_cast<std::uint32_t>(word >> 33) | 0x80000000u;
    word = 0;
  };
  for (std::size_t pos = 0; pos < text.size();) {
    const char32_t c = next_char(text, pos);
    const std::uint8_t bits = classes[c];
    if (bits & CharClass::word) {
      if (word == 0) {
        starts.push_back(count);
        symbols.push_back(0);
        word = 1;
      }
      word = (word ^ c) * 0x9E3779B97F4A7C15ull;
      word ^= word >> 32;
      ++count;
      before = 0;
      continue;
    }
    end_word();
    if (bits & CharClass::space) {
      before = 0;
      continue;
    }
    if (c != before) {
      starts.push_back(count);
      symbols.push_back(static_cast<std::uint32_t>(c));
    }
    ++count;
    before = bits & CharClass::letter ? 0 : c;
  }
  end_word();
  starts.push_back(count);
}

double duplicate_lines(std::string_view text, Numbering& number) {
  std::size_t most = 1, lines = 0;
  for (const char c : text) most += c == '\n';
  number.clear(most);
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    const std::size_t first = line.find_first_not_of(" \t\r");
    if (first == line.npos) continue;
    line = line.substr(first, line.find_last_not_of(" \t\r") + 1 - first);
    ++lines;
    number(XXH3_64bits(line.data(), line.size()));
  }
  return lines == 0 ? 0 : static_cast<double>(lines - number.count()) / static_cast<double>(lines);
}

}  // namespace

// n-grams are numbered by the number of their first n - 1 units and the last unit, not by a hash that could mistake one
// for another; and only where the first n - 1 occur twice: in most text ever fewer places.
RepetitionFigures repetition_figures(std::string_view text, std::span<const GramLimit> top,
                                     std::span<const GramLimit> duplicate) {
  constexpr std::size_t most_bytes = std::size_t{2} << 20;
  if (text.size() > most_bytes) {
    std::size_t end = most_bytes;
    while ((text[end] & 0xC0) == 0x80) --end;
    text = text.substr(0, end);
  }
  thread_local Scratch scratch;
  auto& [number, symbols, starts, at, gram, times, chars] = scratch;
  RepetitionFigures figures{duplicate_lines(text, number), std::vector<double>(top.size()),
                            std::vector<double>(duplicate.size())};
  read_units(text, scratch);
  const std::size_t units = symbols.size();
  const auto all = static_cast<double>(starts.back());
  at.resize(units);
  gram.resize(units);
  for (std::size_t i = 0; i < units; ++i) {
    at[i] = static_cast<std::uint32_t>(i);
    gram[i] = symbols[i];
  }
  const int last = std::max(top.empty() ? 0 : top.back().n, duplicate.empty() ? 0 : duplicate.back().n);
  std::size_t next_top = 0, next_duplicate = 0;
  for (int n = 2; n <= last && !at.empty(); ++n) {
    // Places from which n units reach.
    while (!at.empty() && at.back() + static_cast<std::size_t>(n) > units) at.pop_back();
    number.clear(at.size());
    times.assign(at.size(), 0);
    for (std::size_t k = 0; k < at.size(); ++k) {
      const std::uint64_t key = std::uint64_t{gram[k]} << 32 | symbols[at[k] + static_cast<std::size_t>(n) - 1];
      gram[k] = number(key);
      ++times[gram[k]];
    }
    std::size_t kept = 0;
    for (std::size_t k = 0; k < at.size(); ++k) {
      if (times[gram[k]] < 2) continue;
      at[kept] = at[k];
      gram[kept++] = gram[k];
    }
    at.resize(kept);
    const auto length = [&](std::size_t k) { return starts[at[k] + static_cast<std::size_t>(n)] - starts[at[k]]; };
    if (next_top < top.size() && top[next_top].n == n) {
      chars.assign(number.count(), 0);
      std::uint64_t most = 0;
      for (std::size_t k = 0; k < kept; ++k) most = std::max(most, chars[gram[k]] += length(k));
      figures.top[next_top++] = static_cast<double>(most) / all;
    }
    if (next_duplicate < duplicate.size() && duplicate[next_duplicate].n == n) {
      std::uint64_t sum = 0;
      std::size_t free = 0;
      for (std::size_t k = 0; k < kept; ++k) {
        if (at[k] < free) continue;
        if (times[gram[k]] == 0) {  // seen: 0 from its first visit on
          sum += length(k);
          free = at[k] + static_cast<std::size_t>(n);
        }
        times[gram[k]] = 0;
      }
      figures.duplicate[next_duplicate++] = static_cast<double>(sum) / all;
    }
  }
  return figures;
}

RepetitionFilter::RepetitionFilter(std::span<const FilterProfile> profiles) {
  for (const auto& profile : profiles) rules_.push_back(profile.repetition);
}

std::optional<Rejection> RepetitionFilter::apply(TextDocument& document, Tally&) const {
  const RepetitionRules& rules = rules_.at(document.source);
  const RepetitionFigures figures = repetition_figures(document.text, rules.top, rules.duplicate);
  if (figures.duplicate_lines > rules.max_duplicate_lines) {
    return Rejection{"duplicate_lines", figures.duplicate_lines, rules.max_duplicate_lines};
  }
  for (std::size_t i = 0; i < rules.top.size(); ++i) {
    const auto& [n, limit] = rules.top[i];
    if (figures.top[i] > limit) return Rejection{"top_" + std::to_string(n) + "_gram", figures.top[i], limit};
  }
  for (std::size_t i = 0; i < rules.duplicate.size(); ++i) {
    const auto& [n, limit] = rules.duplicate[i];
    if (figures.duplicate[i] > limit) {
      return Rejection{"duplicate_" + std::to_string(n) + "_gram", figures.duplicate[i], limit};
    }
  }
  return std::nullopt;
}

}  // namespace dujiang::data
