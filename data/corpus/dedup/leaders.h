#pragma once
// Which documents of a bucket to compare.

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "data/corpus/dedup/work.h"

namespace dujiang::data {

struct Pair {
  DocumentId a, b;
  bool operator==(const Pair&) const = default;
};

/// Goes through the documents of one bucket after the other, in order, and says which pairs to look at. A document that
/// looks like an earlier leader beyond doubt is paired with it alone; any other becomes a leader and is paired with the
/// likeliest of those before it. The newest leaders are kept.
class Leaders {
 public:
  static constexpr std::size_t most_leaders = 32, most_pairs = 8;

  /// Signatures have k hashes. Pairs of at least `threshold` are looked for.
  Leaders(std::size_t k, double threshold);

  /// The next document of the bucket `key`, which is the last one's or a new one. Appends its pairs, it being b.
  void add(std::uint64_t key, DocumentId document, std::span<const std::uint8_t> signature, std::vector<Pair>& pairs);

 private:
  std::size_t k_;
  double likely_, sure_;
  std::uint64_t key_ = 0;
  std::size_t count_ = 0;  // of leaders so far
  DocumentId documents_[most_leaders];
  std::vector<std::uint8_t> signatures_;
  std::vector<std::pair<double, DocumentId>> likely_pairs_;  // minus the estimate, leader
};

}  // namespace dujiang::data
