#include "data/tokenizer/bpe_merger.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <string>
#include <unordered_map>

#include "data/text/utf8.h"
#include "framework/base/check.h"

namespace dujiang::data {

namespace {

using Byte = unsigned char;

constexpr int id_bits = 21, rank_bits = 64 - 2 * id_bits;
constexpr std::uint64_t no_pair = ~std::uint64_t{0};
constexpr std::uint32_t check_left = 1u << 30, check_right = 1u << 31, id_mask = check_left - 1;
constexpr std::size_t longest_short = 48;  // symbols; above it a heap is faster than looking through all ranks

std::uint64_t pair_of(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(left) << id_bits | static_cast<std::uint64_t>(right);
}
bool is_tail(Byte byte) {
  return (byte & 0xC0) == 0x80;
}
std::size_t left_index(Byte before, Byte lead) {
  return std::size_t{before} * 64 + (lead & 63);
}
std::size_t right_index(Byte tail, Byte behind) {
  return std::size_t{behind} * 64 + (tail & 63);
}

}  // namespace

BpeMerger::BpeMerger(const BpeModel& model) {
  if (model.tokens.size() >= std::size_t{1} << id_bits || model.merges.size() >= (std::size_t{1} << rank_bits) - 1) {
    fail_user("tokenizer: {} tokens and {} merges; at most {} and {} are supported", model.tokens.size(),
              model.merges.size(), (1 << id_bits) - 1, (1 << rank_bits) - 2);
  }
  const auto bytes = byte_ids(model);
  std::copy(bytes.begin(), bytes.end(), byte_ids_.begin());

  std::unordered_map<std::string_view, std::int32_t> ids;
  ids.reserve(model.tokens.size());
  for (std::size_t id = 0; id < model.tokens.size(); ++id) {
    if (!model.tokens[id].empty()) ids.emplace(model.tokens[id], static_cast<std::int32_t>(id));
  }
  const std::size_t places = std::bit_ceil(model.merges.size() * 2 + 2);
  pairs_.assign(places, no_pair);
  shift_ = 64 - std::countr_zero(places);
  results_.reserve(model.merges.size());
  std::string joined;
  for (const auto& [left, right] : model.merges) {
    const auto text = [&](std::int32_t id) -> const std::string& {
      DUJIANG_CHECK(id >= 0 && static_cast<std::size_t>(id) < model.tokens.size(), "merge {}: there is no token {}",
                    results_.size(), id);
      return model.tokens[static_cast<std::size_t>(id)];
    };
    joined = text(left);
    joined += text(right);
    const auto result = ids.find(joined);
    DUJIANG_CHECK(result != ids.end(), "merge {}: what it makes is no token", results_.size());
    add_pair(left, right, static_cast<std::uint32_t>(results_.size()));
    results_.push_back(result->second);
  }
  find_whole_chars(model);
  find_borders(model);
}

void BpeMerger::add_pair(std::int32_t left, std::int32_t right, std::uint32_t rank) {
  const std::uint64_t pair = pair_of(left, right);
  std::size_t place = (pair * 0x9E3779B97F4A7C15) >> shift_;
  while (pairs_[place] != no_pair && pairs_[place] >> rank_bits != pair) place = (place + 1) & (pairs_.size() - 1);
  pairs_[place] = pair << rank_bits | rank;  // of a pair that is listed twice the last rank counts, as elsewhere
}

std::uint32_t BpeMerger::rank_of(std::int32_t left, std::int32_t right) const {
  const std::uint64_t pair = pair_of(left, right);
  std::size_t place = (pair * 0x9E3779B97F4A7C15) >> shift_;
  for (; pairs_[place] != no_pair; place = (place + 1) & (pairs_.size() - 1)) {
    if (pairs_[place] >> rank_bits == pair) return static_cast<std::uint32_t>(pairs_[place] & ((1u << rank_bits) - 1));
  }
  return none;
}

// A character may start as its token when each merge of the bytes in it has a lower rank than any merge of its first or
// last bytes with what stands beside it, so that nothing can take part of it before it is whole, and than any merge of
// the whole, which would come too early otherwise.
void BpeMerger::find_whole_chars(const BpeModel& model) {
  left_.assign(256 * 64, none);
  right_.assign(256 * 64, none);
  std::array<std::uint32_t, 64> left_any, right_any;
  std::vector<std::uint32_t> first_use(model.tokens.size(), none);
  left_any.fill(none);
  right_any.fill(none);
  const auto text = [&](std::int32_t id) -> const std::string& { return model.tokens[static_cast<std::size_t>(id)]; };
  for (const auto& [left, right] : model.merges) {
    const std::uint32_t rank = rank_of(left, right);
    const std::string &before = text(left), &behind = text(right);
    const Byte lead = static_cast<Byte>(behind[0]), last = static_cast<Byte>(before.back());
    const auto lower = [rank](std::uint32_t& lowest) { lowest = std::min(lowest, rank); };
    lower(first_use[static_cast<std::size_t>(left)]);
    lower(first_use[static_cast<std::size_t>(right)]);
    // The right one starts a character and doesn't finish it; or the left one ends a character that it didn't start.
    if (lead >= 0xC0 && behind.size() < (lead < 0xE0 ? 2u : lead < 0xF0 ? 3u : 4u)) {
      lower(left_[left_index(last, lead)]);
      lower(left_any[lead & 63]);
    }
    if (!is_tail(lead) && std::all_of(before.begin(), before.end(), [](char c) { return is_tail(Byte(c)); })) {
      lower(right_[right_index(last, lead)]);
      lower(right_any[last & 63]);
    }
  }

  complete_.assign(model.tokens.size(), none);
  chars_.assign(0x10000, none);
  for (char32_t c = 0x80; c < 0x10000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string bytes;
    append_utf8(bytes, c);
    const auto id = [&](std::size_t i) { return byte_ids_[static_cast<Byte>(bytes[i])]; };
    std::uint32_t rank = rank_of(id(0), id(1)), highest = rank;
    std::int32_t whole = -1;
    if (bytes.size() == 2) {
      if (rank != none) whole = results_[rank];
    } else {
      const std::uint32_t other = rank_of(id(1), id(2));
      const bool first = rank < other;
      if (!first) rank = other;
      if (rank == none) continue;
      const std::uint32_t last = first ? rank_of(results_[rank], id(2)) : rank_of(id(0), results_[rank]);
      if (last == none) continue;
      whole = results_[last];
      highest = std::max(rank, last);
    }
    if (whole < 0 || first_use[static_cast<std::size_t>(whole)] < highest) continue;
    complete_[static_cast<std::size_t>(whole)] = highest;
    const auto lead = static_cast<Byte>(bytes[0]), tail = static_cast<Byte>(bytes.back());
    chars_[c] =
        whole | (left_any[lead & 63] < highest ? check_left : 0) | (right_any[tail & 63] < highest ? check_right : 0);
  }
}

bool BpeMerger::is_safe(std::uint32_t whole, const Byte* at, std::size_t size, const Byte* begin,
                        const Byte* end) const {
  const std::uint32_t complete = complete_[whole & id_mask];
  if ((whole & check_left) && at > begin && left_[left_index(at[-1], *at)] < complete) return false;
  return !(whole & check_right) || at + size == end || right_[right_index(at[size - 1], at[size])] > complete;
}

// The symbols that pieces start as are bytes and whole characters, so a merge joins one of those that its left side
// ends with to one of those that its right side starts with.
void BpeMerger::find_borders(const BpeModel& model) {
  const std::size_t bits = std::bit_ceil(model.merges.size() * 16 + 64);
  borders_.assign(bits / 64, 0);
  border_shift_ = 64 - std::countr_zero(bits);
  const auto symbols = [&](std::string_view chars, Byte byte) {
    std::pair<std::int32_t, std::int32_t> out{byte_ids_[byte], byte_ids_[byte]};
    if (utf8_valid_prefix(chars) == chars.size()) {
      std::size_t pos = 0;
      const char32_t c = next_char(chars, pos);
      if (c < chars_.size() && chars_[c] != none) out.second = static_cast<std::int32_t>(chars_[c] & id_mask);
    }
    return out;
  };
  for (const auto& [left, right] : model.merges) {
    const std::string_view before = model.tokens[static_cast<std::size_t>(left)];
    const std::string_view behind = model.tokens[static_cast<std::size_t>(right)];
    std::size_t start = before.size() - 1;
    while (start > 0 && is_tail(static_cast<Byte>(before[start]))) --start;
    std::size_t end = 1;
    while (end < behind.size() && is_tail(static_cast<Byte>(behind[end]))) ++end;
    const auto a = symbols(before.substr(start), static_cast<Byte>(before.back()));
    const auto b = symbols(behind.substr(0, end), static_cast<Byte>(behind[0]));
    for (const auto x : {a.first, a.second}) {
      for (const auto y : {b.first, b.second}) {
        const std::uint64_t bit = border_hash(x, y) >> border_shift_;
        borders_[bit / 64] |= std::uint64_t{1} << (bit % 64);
      }
    }
  }
}

std::int32_t* BpeMerger::merge(std::string_view piece, std::int32_t* out, Buffers& buffers) const {
  const Byte* const begin = reinterpret_cast<const Byte*>(piece.data());
  const Byte* const end = begin + piece.size();
  std::int32_t* stretch = out;  // symbols since the last certain border
  const auto add = [&](std::int32_t symbol) {
    if (out > stretch && !may_merge(out[-1], symbol)) stretch = out = merge_stretch(stretch, out, buffers);
    *out++ = symbol;
  };
  for (const Byte* at = begin; at < end;) {
    const Byte lead = *at;
    if (lead >= 0xC0 && lead < 0xF0) {
      const std::size_t size = lead < 0xE0 ? 2 : 3;
      const std::uint32_t c = size == 2 ? (lead & 0x1Fu) << 6 | (at[1] & 0x3Fu)
                                        : (lead & 0x0Fu) << 12 | (at[1] & 0x3Fu) << 6 | (at[2] & 0x3Fu);
      const std::uint32_t whole = chars_[c];
      if (whole != none && (whole <= id_mask || is_safe(whole, at, size, begin, end))) {
        add(static_cast<std::int32_t>(whole & id_mask));
        at += size;
        continue;
      }
    }
    do add(byte_ids_[*at++]);
    while (at < end && is_tail(*at));
  }
  return merge_stretch(stretch, out, buffers);
}

std::int32_t* BpeMerger::merge_stretch(std::int32_t* begin, std::int32_t* end, Buffers& buffers) const {
  const auto count = static_cast<std::size_t>(end - begin);
  if (count < 2) return end;
  if (count == 2) {
    const std::uint32_t rank = rank_of(begin[0], begin[1]);
    if (rank == none) return end;
    begin[0] = results_[rank];
    return begin + 1;
  }
  return count <= longest_short ? merge_short(begin, count) : merge_long(begin, count, buffers);
}

std::int32_t* BpeMerger::merge_short(std::int32_t* ids, std::size_t count) const {
  std::uint32_t ranks[longest_short];  // of the pair that starts here
  for (std::size_t i = 0; i + 1 < count; ++i) ranks[i] = rank_of(ids[i], ids[i + 1]);
  while (count > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < count; ++i) best = ranks[i] < ranks[best] ? i : best;
    if (ranks[best] == none) break;
    ids[best] = results_[ranks[best]];
    --count;
    for (std::size_t i = best + 1; i < count; ++i) ids[i] = ids[i + 1];
    for (std::size_t i = best; i + 1 < count; ++i) ranks[i] = ranks[i + 1];
    if (best > 0) ranks[best - 1] = rank_of(ids[best - 1], ids[best]);
    if (best + 1 < count) ranks[best] = rank_of(ids[best], ids[best + 1]);
  }
  return ids + count;
}

// All places that wait for the lowest rank are merged from left to right in one sweep, so that even a run of millions
// of equal characters goes through memory in order. Places whose pair has changed since are skipped.
std::int32_t* BpeMerger::merge_long(std::int32_t* ids, std::size_t count, Buffers& buffers) const {
  DUJIANG_CHECK(count < none, "tokenizer: a piece of {} symbols is too long", count);
  auto& [ranks, previous, next, first, last, waiting, due, batch] = buffers;
  for (auto* list : {&ranks, &previous, &next})
    if (list->size() < count) list->resize(count);
  first.resize(results_.size(), none);  // all are none again in the end
  last.resize(results_.size(), none);
  waiting.clear();
  std::uint32_t free = none;

  const auto wait = [&](std::uint32_t place) {
    const std::uint32_t rank = ranks[place];
    std::uint32_t element = free;
    if (element == none) {
      element = static_cast<std::uint32_t>(waiting.size());
      waiting.push_back({place, none});
    } else {
      free = waiting[element].next;
      waiting[element] = {place, none};
    }
    if (first[rank] == none) {
      first[rank] = element;
      due.push_back(rank);
      std::push_heap(due.begin(), due.end(), std::greater<>());
    } else {
      waiting[last[rank]].next = element;
    }
    last[rank] = element;
  };
  const auto rank_again = [&](std::uint32_t place) {
    ranks[place] = next[place] == none ? none : rank_of(ids[place], ids[next[place]]);
    if (ranks[place] != none) wait(place);
  };

  for (std::uint32_t i = 0; i < count; ++i) {
    previous[i] = i - 1;  // none for the first
    next[i] = i + 1 == count ? none : i + 1;
    rank_again(i);
  }
  while (!due.empty()) {
    std::pop_heap(due.begin(), due.end(), std::greater<>());
    const std::uint32_t rank = due.back();
    due.pop_back();
    batch.clear();
    for (std::uint32_t element = first[rank]; element != none; element = waiting[element].next) {
      batch.push_back(waiting[element].place);
    }
    waiting[last[rank]].next = free;
    free = first[rank];
    first[rank] = last[rank] = none;
    if (!std::is_sorted(batch.begin(), batch.end())) std::sort(batch.begin(), batch.end());
    for (std::size_t at = 0; at < batch.size(); ++at) {
      const std::uint32_t i = batch[at];
      if (ranks[i] != rank) continue;
      if (!due.empty() && due.front() < rank) {  // what was just made comes first
        for (; at < batch.size(); ++at)
          if (ranks[batch[at]] == rank) wait(batch[at]);
        break;
      }
      const std::uint32_t gone = next[i];
      ids[i] = results_[rank];
      ranks[gone] = none;
      next[i] = next[gone];
      if (next[i] != none) previous[next[i]] = i;
      rank_again(i);
      if (previous[i] != none) rank_again(previous[i]);
    }
  }
  std::int32_t* out = ids;
  for (std::uint32_t i = 0; i != none; i = next[i]) *out++ = ids[i];
  return out;
}

}  // namespace dujiang::data
