#pragma once
// A permutation of [0, n) that is a function and not a table: a Feistel network over the least power of two that
// covers n, walked until it lands below n (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002).

#include <array>
#include <cstdint>

namespace dujiang::data {

class Permutation {
 public:
  /// Keys come from Philox(seed, stream) at `epoch`, so that seed, stream and epoch each give another order. n >= 1.
  Permutation(std::int64_t n, std::uint64_t seed, std::uint64_t stream, std::uint64_t epoch);

  std::int64_t size() const { return n_; }
  /// Where index i in [0, n) goes; under 100 ns.
  std::int64_t operator()(std::int64_t i) const;
  /// What goes to `to`.
  std::int64_t inverse(std::int64_t to) const;

 private:
  static constexpr int rounds = 6;
  std::int64_t n_;
  int low_bits_;
  std::uint64_t low_mask_, high_mask_;
  std::array<std::uint64_t, rounds> keys_;
};

}  // namespace dujiang::data
