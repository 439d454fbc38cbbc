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

  std::unordered_map<std::string_view, std::uint32_t> ids;
  ids.reserve(model.tokens.size());
  for (std::size_t id = 0; id < model.tokens.size(); ++id) {
    if (!model.tokens[id].empty()) ids.emplace(model.tokens[id], static_cast<std::uint32_t>(id));
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
    add_pair(static_cast<std::uint32_t>(left), static_cast<std::uint32_t>(right),
             static_cast<std::uint32_t>(results_.size()));
    results_.push_back(result->second);
  }
  find_whole_chars(model);
}

void BpeMerger::add_pair(std::uint32_t left, std::uint32_t right, std::uint32_t rank) {
  const std::uint64_t pair = std::uint64_t{left} << id_bits | right;
  std::size_t place = (pair * 0x9E3779B97F4A7C15) >> shift_;
  while (pairs_[place] != no_pair && pairs_[place] >> rank_bits != pair) place = (place + 1) & (pairs_.size() - 1);
  pairs_[place] = pair << rank_bits | rank;  // of a pair that is listed twice the last rank counts, as elsewhere
}

std::uint32_t BpeMerger::rank_of(std::uint32_t left, std::uint32_t right) const {
  const std::uint64_t pair = std::uint64_t{left} << id_bits | right;
  std::size_t place = (pair * 0x9E3779B97F4A7C15) >> shift_;
  for (; pairs_[place] != no_pair; place = (place + 1) & (pairs_.size() - 1)) {
    if (pairs_[place] >> rank_bits == pair) return static_cast<std::uint32_t>(pairs_[place] & ((1u << rank_bits) - 1));
  }
  return none;
}

// A character may start as its token when each merge of the bytes in it has a lower rank than any merge of its first or
// last bytes with what stands beside it: then nothing can take part of it before it is whole.
void BpeMerger::find_whole_chars(const BpeModel& model) {
  left_.assign(256 * 64, none);
  right_.assign(256 * 64, none);
  std::array<std::uint32_t, 64> left_any, right_any;
  left_any.fill(none);
  right_any.fill(none);
  const auto text = [&](std::int32_t id) -> const std::string& { return model.tokens[static_cast<std::size_t>(id)]; };
  for (const auto& [left, right] : model.merges) {
    const std::uint32_t rank = rank_of(static_cast<std::uint32_t>(left), static_cast<std::uint32_t>(right));
    const std::string &before = text(left), &behind = text(right);
    const Byte lead = static_cast<Byte>(behind[0]), last = static_cast<Byte>(before.back());
    const auto lower = [rank](std::uint32_t& lowest) { lowest = std::min(lowest, rank); };
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
    std::uint32_t rank = rank_of(id(0), id(1)), whole = none, highest = rank;
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
    if (whole == none) continue;
    complete_[whole] = highest;
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

std::size_t BpeMerger::start(std::string_view piece, std::vector<std::uint32_t>& ids) const {
  if (ids.size() < piece.size()) ids.resize(piece.size());
  const Byte* const begin = reinterpret_cast<const Byte*>(piece.data());
  const Byte* const end = begin + piece.size();
  std::uint32_t* out = ids.data();
  for (const Byte* at = begin; at < end;) {
    const Byte lead = *at;
    if (lead >= 0xC0 && lead < 0xF0) {
      const std::size_t size = lead < 0xE0 ? 2 : 3;
      const std::uint32_t c = size == 2 ? (lead & 0x1Fu) << 6 | (at[1] & 0x3Fu)
                                        : (lead & 0x0Fu) << 12 | (at[1] & 0x3Fu) << 6 | (at[2] & 0x3Fu);
      const std::uint32_t whole = chars_[c];
      if (whole != none && (whole <= id_mask || is_safe(whole, at, size, begin, end))) {
        *out++ = whole & id_mask;
        at += size;
        continue;
      }
    }
    do *out++ = byte_ids_[*at++];
    while (at < end && is_tail(*at));
  }
  return static_cast<std::size_t>(out - ids.data());
}

std::size_t BpeMerger::merge(std::string_view piece, Buffers& buffers) const {
  const std::size_t count = start(piece, buffers.ids);
  return count < 2 ? count : count <= longest_short ? merge_short(count, buffers) : merge_long(count, buffers);
}

std::size_t BpeMerger::merge_short(std::size_t count, Buffers& buffers) const {
  std::uint32_t* const ids = buffers.ids.data();
  std::uint32_t ranks[longest_short];  // of the pair that starts here
  for (std::size_t i = 0; i + 1 < count; ++i) ranks[i] = rank_of(ids[i], ids[i + 1]);
  while (count > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < count; ++i) best = ranks[i] < ranks[best] ? i : best;
    if (ranks[best] == none) break;
    ids[best] = results_[ranks[best]];
    std::copy(ids + best + 2, ids + count, ids + best + 1);
    std::copy(ranks + best + 1, ranks + count - 1, ranks + best);
    --count;
    if (best > 0) ranks[best - 1] = rank_of(ids[best - 1], ids[best]);
    if (best + 1 < count) ranks[best] = rank_of(ids[best], ids[best + 1]);
  }
  return count;
}

// A heap of (rank, place) and a linked list of the symbols; entries whose pair has changed since are skipped.
std::size_t BpeMerger::merge_long(std::size_t count, Buffers& buffers) const {
  DUJIANG_CHECK(count < none, "tokenizer: a piece of {} symbols is too long", count);
  auto& [ids, ranks, previous, next, heap] = buffers;
  for (auto* list : {&ranks, &previous, &next})
    if (list->size() < count) list->resize(count);
  const auto last = static_cast<std::uint32_t>(count - 1);
  heap.clear();
  for (std::uint32_t i = 0; i <= last; ++i) {
    previous[i] = i - 1;  // none for the first
    next[i] = i == last ? none : i + 1;
    ranks[i] = i == last ? none : rank_of(ids[i], ids[i + 1]);
    if (ranks[i] != none) heap.push_back(std::uint64_t{ranks[i]} << 32 | i);
  }
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  const auto rank_again = [&](std::uint32_t i) {
    ranks[i] = next[i] == none ? none : rank_of(ids[i], ids[next[i]]);
    if (ranks[i] == none) return;
    heap.push_back(std::uint64_t{ranks[i]} << 32 | i);
    std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const auto rank = static_cast<std::uint32_t>(heap.back() >> 32);
    const auto i = static_cast<std::uint32_t>(heap.back());
    heap.pop_back();
    if (ranks[i] != rank) continue;
    const std::uint32_t gone = next[i];
    ids[i] = results_[rank];
    ranks[gone] = none;
    next[i] = next[gone];
    if (next[i] != none) previous[next[i]] = i;
    rank_again(i);
    if (previous[i] != none) rank_again(previous[i]);
  }
  std::size_t left = 0;
  for (std::uint32_t i = 0; i != none; i = next[i]) ids[left++] = ids[i];
  return left;
}

}  // namespace dujiang::data
