#pragma once
// A text as the set of its character n-grams.

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

namespace dujiang::data {

struct ShingleConfig {
  std::uint32_t ngram = 5;   // characters; a text with fewer is one shingle as a whole
  bool letters_only = true;  // white space, punctuation, symbols and controls are skipped
};

/// Hashes of the n-grams from front to back, in blocks. None when the text has no characters that count.
void for_each_shingle(std::string_view text, const ShingleConfig& config,
                      const std::function<void(std::span<const std::uint64_t>)>& block);

/// Sorted, each once. Of very large sets only the hashes below a limit are kept, which makes for the same share of any
/// set: half a million of them give the similarity to 0.001.
class ShingleSet {
 public:
  ShingleSet(std::string_view text, const ShingleConfig& config, std::size_t max_size = std::size_t{1} << 20);
  std::size_t size() const { return hashes_.size(); }
  /// Jaccard: shared over all. 0 when both are empty.
  friend double similarity(const ShingleSet& a, const ShingleSet& b);

 private:
  std::span<const std::uint64_t> below(std::uint64_t limit) const;

  std::vector<std::uint64_t> hashes_;
  std::uint64_t limit_ = ~std::uint64_t{0};  // largest hash that is kept
};

}  // namespace dujiang::data
