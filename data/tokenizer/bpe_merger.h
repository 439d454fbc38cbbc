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
  /// Buffers that one thread keeps between pieces.
  struct Buffers {
    std::vector<std::uint32_t> ids, ranks, previous, next;
    std::vector<std::uint64_t> heap;
  };

  explicit BpeMerger(const BpeModel& model);

  /// Leaves the ids of `piece`, whole characters of valid UTF-8, in the first `returned` places of buffers.ids: the
  /// same as merging the pair of lowest rank, leftmost first, until none is left. Takes O(n log n).
  std::size_t merge(std::string_view piece, Buffers& buffers) const;

 private:
  static constexpr std::uint32_t none = 0xFFFFFFFF;

  std::uint32_t rank_of(std::uint32_t left, std::uint32_t right) const;
  void add_pair(std::uint32_t left, std::uint32_t right, std::uint32_t rank);
  void find_whole_chars(const BpeModel& model);
  std::size_t start(std::string_view piece, std::vector<std::uint32_t>& ids) const;
  std::size_t merge_short(std::size_t count, Buffers& buffers) const;
  std::size_t merge_long(std::size_t count, Buffers& buffers) const;
  bool is_safe(std::uint32_t whole, const unsigned char* at, std::size_t size, const unsigned char* begin,
               const unsigned char* end) const;

  std::array<std::uint32_t, 256> byte_ids_;
  std::vector<std::uint64_t> pairs_;    // open addressing: left, right and rank in one word
  int shift_ = 0;                       // of the hash
  std::vector<std::uint32_t> results_;  // by rank
  // Characters of two and three bytes whose merges come before any merge across their borders start as one symbol.
  std::vector<std::uint32_t> chars_;         // by code point: id and flags; none
  std::vector<std::uint32_t> complete_;      // by id, of such a character: the rank that completes it
  std::vector<std::uint32_t> left_, right_;  // lowest rank of a merge across a character's start, end
};

}  // namespace dujiang::data
