#include "data/corpus/dedup/minhash.h"

#include <algorithm>

#include "data/corpus/dedup/shuffle.h"

namespace dujiang::data {
namespace {

constexpr std::size_t lanes = 16;  // of the widest vectors

// Compiled once for each instruction set below, in which the inner loop becomes one multiply, add and minimum.
[[gnu::always_inline]] inline void lower_all(std::uint32_t* minima, const std::uint32_t* a, const std::uint32_t* b,
                                             std::size_t k, const std::uint64_t* hashes, std::size_t count) {
  for (std::size_t first = 0; first < k; first += lanes) {
    std::uint32_t least[lanes], factor[lanes], offset[lanes];
    for (std::size_t i = 0; i < lanes; ++i) {
      least[i] = minima[first + i];
      factor[i] = a[first + i];
      offset[i] = b[first + i];
    }
    for (std::size_t h = 0; h < count; ++h) {
      const auto x = static_cast<std::uint32_t>(hashes[h] >> 32);
      for (std::size_t i = 0; i < lanes; ++i) {
        const std::uint32_t value = x * factor[i] + offset[i];
        least[i] = value < least[i] ? value : least[i];
      }
    }
    for (std::size_t i = 0; i < lanes; ++i) minima[first + i] = least[i];
  }
}

using Lower = void(std::uint32_t*, const std::uint32_t*, const std::uint32_t*, std::size_t, const std::uint64_t*,
                   std::size_t);
void lower_any(std::uint32_t* minima, const std::uint32_t* a, const std::uint32_t* b, std::size_t k,
               const std::uint64_t* hashes, std::size_t count) {
  lower_all(minima, a, b, k, hashes, count);
}
#if defined(__x86_64__)
[[gnu::target("avx2")]] void lower_avx2(std::uint32_t* minima, const std::uint32_t* a, const std::uint32_t* b,
                                        std::size_t k, const std::uint64_t* hashes, std::size_t count) {
  lower_all(minima, a, b, k, hashes, count);
}
[[gnu::target("avx512f,prefer-vector-width=512")]] void lower_avx512(std::uint32_t* minima, const std::uint32_t* a,
                                                                     const std::uint32_t* b, std::size_t k,
                                                                     const std::uint64_t* hashes, std::size_t count) {
  lower_all(minima, a, b, k, hashes, count);
}
Lower* best_lower() {
  return __builtin_cpu_supports("avx512f") ? lower_avx512 : __builtin_cpu_supports("avx2") ? lower_avx2 : lower_any;
}
#else
Lower* best_lower() {
  return lower_any;
}
#endif

}  // namespace

MinHash::MinHash(std::size_t k) : k_(k) {
  const std::size_t padded = (k + lanes - 1) / lanes * lanes;
  for (std::size_t i = 0; i < padded; ++i) {
    const auto random = mixed(i + 1);
    a_.push_back(static_cast<std::uint32_t>(random) | 1u);  // odd: a bijection
    b_.push_back(static_cast<std::uint32_t>(random >> 32));
  }
}

void MinHash::lower(std::span<std::uint32_t> minima, std::span<const std::uint64_t> hashes) const {
  best_lower()(minima.data(), a_.data(), b_.data(), a_.size(), hashes.data(), hashes.size());
}

double estimated_similarity(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b) {
  std::uint32_t equal = 0;
  for (std::size_t i = 0; i < a.size(); ++i) equal += a[i] == b[i];
  const double share = static_cast<double>(equal) / static_cast<double>(a.size());
  return std::max(0.0, (share - 1.0 / 256) / (1 - 1.0 / 256));
}

}  // namespace dujiang::data
