#include "data/corpus/dedup/leaders.h"

#include <algorithm>
#include <cmath>

#include "data/corpus/dedup/minhash.h"

namespace dujiang::data {

Leaders::Leaders(std::size_t k, double threshold) : k_(k), signatures_(most_leaders * k_) {
  // The estimate's standard deviation at the threshold, thrice: one in 700 is wrong by more.
  const double doubt = 3 * std::sqrt(threshold * (1 - threshold) / static_cast<double>(k_));
  likely_ = threshold - doubt;
  sure_ = std::min(1.0, threshold + doubt);
}

void Leaders::add(std::uint64_t key, DocumentId document, std::span<const std::uint8_t> signature,
                  std::vector<Pair>& pairs) {
  if (key != key_) {
    key_ = key;
    count_ = 0;
  }
  likely_pairs_.clear();
  for (std::size_t i = 0; i < std::min(count_, most_leaders); ++i) {
    const double estimate = estimated_similarity(signature, {signatures_.data() + i * k_, k_});
    if (estimate >= sure_) {
      pairs.push_back({documents_[i], document});
      return;
    }
    if (estimate >= likely_) likely_pairs_.emplace_back(-estimate, documents_[i]);
  }
  std::sort(likely_pairs_.begin(), likely_pairs_.end());
  if (likely_pairs_.size() > most_pairs) likely_pairs_.resize(most_pairs);
  for (const auto& [estimate, leader] : likely_pairs_) pairs.push_back({leader, document});
  const std::size_t slot = count_++ % most_leaders;
  documents_[slot] = document;
  std::copy(signature.begin(), signature.end(), signatures_.begin() + static_cast<std::ptrdiff_t>(slot * k_));
}

}  // namespace dujiang::data
