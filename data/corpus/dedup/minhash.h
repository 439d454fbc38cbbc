#pragma once
// MinHash: the share of equal minima of two sets under k hash functions estimates their Jaccard similarity.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace dujiang::data {

class MinHash {
 public:
  /// k functions x -> a x + b mod 2^32 of the upper half of a hash.
  explicit MinHash(std::size_t k);
  std::size_t size() const { return k_; }
  /// Room for the minima of a set, of nothing yet. It is longer than k.
  std::vector<std::uint32_t> start() const { return std::vector<std::uint32_t>(a_.size(), ~std::uint32_t{0}); }
  /// Lowers the minima to those with these hashes too.
  void lower(std::span<std::uint32_t> minima, std::span<const std::uint64_t> hashes) const;

 private:
  std::size_t k_;
  std::vector<std::uint32_t> a_, b_;  // to a multiple of a vector's length
};

/// The estimate from signatures of the minima's low bytes, unequal minima's bytes being equal once in 256 times.
double estimated_similarity(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b);

}  // namespace dujiang::data
