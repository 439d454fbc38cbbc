#pragma once
// Counter-based random numbers: the i-th number of a stream is a pure function of (seed, stream, i), so that any
// rank can draw any element of a global array. Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3" (SC11).

#include <array>
#include <cstdint>
#include <string_view>

namespace dujiang {

class Philox {
 public:
  Philox(std::uint64_t seed, std::uint64_t stream) : seed_(seed), stream_(stream) {}

  /// The four 32-bit words of block `counter`.
  std::array<std::uint32_t, 4> block(std::uint64_t counter) const;
  std::uint64_t bits(std::uint64_t index) const;
  /// Uniform in [0, 1), 24 bits.
  float uniform(std::uint64_t index) const;
  /// Standard normal (Box-Muller).
  float normal(std::uint64_t index) const;
  /// Uniform in [0, bound); bound > 0. The bias is below bound / 2^64.
  std::uint64_t below(std::uint64_t index, std::uint64_t bound) const;

 private:
  std::uint64_t seed_;
  std::uint64_t stream_;
};

/// A stream number for a name (FNV-1a), such as a parameter's path.
std::uint64_t stream_of(std::string_view name);

}  // namespace dujiang
