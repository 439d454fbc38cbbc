#pragma once
// Merges the pairs of one piece of text at a time.

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "data/tokenizer/bpe_model.h"

namespace dujiang::data {

/// The merges of a model, as encoding looks them up. Immutable: any number of threads may merge with it.
class BpeMerger {
 public:
  /// What one thread keeps between pieces: it grows with the longest stretch of a piece without a certain border.
  struct Buffers {
    struct Waiting {
      std::uint32_t place, next;
    };
    std::vector<std::uint32_t> ranks, previous, next;  // by place
    std::vector<std::uint32_t> first, last;            // by rank: the list of places that wait for it
    std::vector<Waiting> waiting;                      // the lists' elements, those free in a list of their own
    std::vector<std::uint32_t> due, batch;             // a heap of the ranks that are waited for; the places of one
  };

  explicit BpeMerger(const BpeModel& model);

  /// Writes the ids of `piece`, whole characters of valid UTF-8, to `out`, which has a place for each byte; returns the
  /// end of what was written. The ids are those of merging the pair of lowest rank, leftmost first, until none is left.
  /// Takes O(n log n).
  std::int32_t* merge(std::string_view piece, std::int32_t* out, Buffers& buffers) const;

 private:
  static constexpr std::uint32_t none = 0xFFFFFFFF;

  std::uint32_t rank_of(std::int32_t left, std::int32_t right) const;
  void add_pair(std::int32_t left, std::int32_t right, std::uint32_t rank);
  void find_whole_chars(const BpeModel& model);
  void find_borders(const BpeModel& model);
  bool may_merge(std::int32_t left, std::int32_t right) const {
    const std::uint64_t bit = border_hash(left, right) >> border_shift_;
    return borders_[bit / 64] >> (bit % 64) & 1;
  }
  static std::uint64_t border_hash(std::int32_t left, std::int32_t right) {
    return (static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint32_t>(right)) * 0x9E3779B97F4A7C15;
  }
  std::int32_t* merge_stretch(std::int32_t* begin, std::int32_t* end, Buffers& buffers) const;
  std::int32_t* merge_short(std::int32_t* ids, std::size_t count) const;
  std::int32_t* merge_long(std::int32_t* ids, std::size_t count, Buffers& buffers) const;
  bool is_safe(std::uint32_t whole, const unsigned char* at, std::size_t size, const unsigned char* begin,
               const unsigned char* end) const;

  std::array<std::int32_t, 256> byte_ids_;
  std::vector<std::uint64_t> pairs_;   // open addressing: left, right and rank in one word
  int shift_ = 0;                      // of the hash
  std::vector<std::int32_t> results_;  // by rank
  // Bits by hash: clear where no merge joins something that ends with the one symbol to what starts with the other.
  std::vector<std::uint64_t> borders_;
  int border_shift_ = 0;
  // Characters of two and three bytes whose merges come before any merge across their borders start as one symbol.
  std::vector<std::uint32_t> chars_;         // by code point: id and flags; none
  std::vector<std::uint32_t> complete_;      // by id, of such a character: the rank that completes it
  std::vector<std::uint32_t> left_, right_;  // lowest rank of a merge across a character's start, end
};

}  // namespace dujiang::data
