#include "data/loader/permutation.h"

#include <algorithm>
#include <bit>

#include "framework/base/check.h"
#include "framework/base/philox.h"

namespace dujiang::data {
namespace {

/// A bijection on 64 bits whose every output bit depends on every input bit (Stafford's variant 13 of MurmurHash3's
/// finaliser), keyed.
std::uint64_t mix(std::uint64_t x, std::uint64_t key) {
  x = (x ^ key) + 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace

Permutation::Permutation(std::int64_t n, std::uint64_t seed, std::uint64_t stream, std::uint64_t epoch) : n_(n) {
  DUJIANG_CHECK(n >= 1, "a permutation of {} elements", n);
  // Small networks reach few of all orders, so there are 64 values at least; walking makes up for it.
  const int bits = std::max(6, static_cast<int>(std::bit_width(static_cast<std::uint64_t>(n - 1))));
  low_bits_ = bits / 2;
  low_mask_ = (std::uint64_t{1} << low_bits_) - 1;
  high_mask_ = (std::uint64_t{1} << (bits - low_bits_)) - 1;
  const Philox random(seed, stream);
  for (int r = 0; r < rounds; ++r)
    keys_[static_cast<std::size_t>(r)] = random.bits(epoch * rounds + static_cast<std::uint64_t>(r));
}

std::int64_t Permutation::operator()(std::int64_t i) const {
  auto x = static_cast<std::uint64_t>(i);
  do {
    std::uint64_t low = x & low_mask_, high = x >> low_bits_;
    for (std::size_t r = 0; r < rounds; r += 2) {
      low ^= mix(high, keys_[r]) & low_mask_;
      high ^= mix(low, keys_[r + 1]) & high_mask_;
    }
    x = (high << low_bits_) | low;
  } while (x >= static_cast<std::uint64_t>(n_));
  return static_cast<std::int64_t>(x);
}

std::int64_t Permutation::inverse(std::int64_t to) const {
  auto x = static_cast<std::uint64_t>(to);
  do {
    std::uint64_t low = x & low_mask_, high = x >> low_bits_;
    for (std::size_t r = rounds; r > 0; r -= 2) {
      high ^= mix(low, keys_[r - 1]) & high_mask_;
      low ^= mix(high, keys_[r - 2]) & low_mask_;
    }
    x = (high << low_bits_) | low;
  } while (x >= static_cast<std::uint64_t>(n_));
  return static_cast<std::int64_t>(x);
}

}  // namespace dujiang::data
