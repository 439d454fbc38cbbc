#include "data/corpus/dedup/shingles.h"

#include <unicode/uchar.h>

#include <algorithm>

#include "data/corpus/dedup/shuffle.h"
#include "data/text/utf8.h"

namespace dujiang::data {
namespace {

bool counts(char32_t c, const ShingleConfig& config) {
  constexpr auto skipped = U_GC_P_MASK | U_GC_S_MASK | U_GC_Z_MASK | U_GC_CC_MASK | U_GC_CF_MASK;
  return !config.letters_only || !(U_GET_GC_MASK(static_cast<UChar32>(c)) & skipped);
}

}  // namespace

void for_each_shingle(std::string_view text, const ShingleConfig& config,
                      const std::function<void(std::span<const std::uint64_t>)>& block) {
  constexpr std::size_t block_size = 1024;
  constexpr std::uint64_t base = 0x9E3779B97F4A7C15u;  // of a polynomial over the characters, mod 2^64
  const std::size_t n = config.ngram;
  std::uint64_t leaving = 1;  // base^n, by which the character counts that leaves the window
  for (std::size_t i = 0; i < n; ++i) leaving *= base;
  std::vector<char32_t> window(n);
  std::uint64_t hash = 0;
  std::size_t seen = 0, slot = 0;
  std::vector<std::uint64_t> out;
  out.reserve(block_size);
  for (std::size_t pos = 0; pos < text.size();) {
    const char32_t c = next_char(text, pos);
    if (!counts(c, config)) continue;
    // 1 is added so that no character is nothing.
    hash = hash * base + (c + 1) - leaving * window[slot];
    window[slot] = c + 1;
    if (++slot == n) slot = 0;
    if (++seen < n) continue;
    out.push_back(mixed(hash));
    if (out.size() < block_size) continue;
    block(out);
    out.clear();
  }
  if (seen > 0 && seen < n) out.push_back(mixed(hash));
  if (!out.empty()) block(out);
}

ShingleSet::ShingleSet(std::string_view text, const ShingleConfig& config, std::size_t max_size) {
  const auto tidy = [&] {
    std::sort(hashes_.begin(), hashes_.end());
    hashes_.erase(std::unique(hashes_.begin(), hashes_.end()), hashes_.end());
    while (hashes_.size() > max_size) {
      limit_ /= 2;
      hashes_.resize(below(limit_).size());
    }
  };
  for_each_shingle(text, config, [&](std::span<const std::uint64_t> block) {
    for (const auto hash : block) {
      if (hash <= limit_) hashes_.push_back(hash);
    }
    if (hashes_.size() > 2 * max_size) tidy();
  });
  tidy();
  hashes_.shrink_to_fit();
}

std::span<const std::uint64_t> ShingleSet::below(std::uint64_t limit) const {
  if (limit >= limit_ && (hashes_.empty() || hashes_.back() <= limit)) return hashes_;
  return {hashes_.begin(), std::upper_bound(hashes_.begin(), hashes_.end(), limit)};
}

double similarity(const ShingleSet& a, const ShingleSet& b) {
  const auto limit = std::min(a.limit_, b.limit_);
  const auto x = a.below(limit), y = b.below(limit);
  std::size_t i = 0, j = 0, shared = 0;
  while (i < x.size() && j < y.size()) {
    const auto p = x[i], q = y[j];
    shared += p == q;
    i += p <= q;
    j += q <= p;
  }
  const auto all = x.size() + y.size() - shared;
  return all == 0 ? 0 : static_cast<double>(shared) / static_cast<double>(all);
}

}  // namespace dujiang::data
