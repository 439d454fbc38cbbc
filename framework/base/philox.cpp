#include "framework/base/philox.h"

#include <cmath>
#include <numbers>

namespace dujiang {

__extension__ typedef unsigned __int128 Wide;

std::array<std::uint32_t, 4> Philox::block(std::uint64_t counter) const {
  constexpr std::uint64_t multiplier0 = 0xD2511F53, multiplier1 = 0xCD9E8D57;
  constexpr std::uint32_t weyl0 = 0x9E3779B9, weyl1 = 0xBB67AE85;
  auto low = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
  auto high = [](std::uint64_t x) { return static_cast<std::uint32_t>(x >> 32); };
  std::array<std::uint32_t, 4> c{low(counter), high(counter), low(stream_), high(stream_)};
  std::uint32_t k0 = low(seed_), k1 = high(seed_);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = multiplier0 * c[0], p1 = multiplier1 * c[2];
    c = {high(p1) ^ c[1] ^ k0, low(p1), high(p0) ^ c[3] ^ k1, low(p0)};
    k0 += weyl0;
    k1 += weyl1;
  }
  return c;
}

std::uint64_t Philox::bits(std::uint64_t index) const {
  const auto b = block(index);
  return (static_cast<std::uint64_t>(b[1]) << 32) | b[0];
}

float Philox::uniform(std::uint64_t index) const {
  return static_cast<float>(block(index)[0] >> 8) * 0x1p-24f;
}

float Philox::normal(std::uint64_t index) const {
  const auto b = block(index);
  const double u = (static_cast<double>(b[0]) + 0.5) * 0x1p-32;  // never 0
  const double v = static_cast<double>(b[1]) * 0x1p-32;
  return static_cast<float>(std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v));
}

std::uint64_t Philox::below(std::uint64_t index, std::uint64_t bound) const {
  return static_cast<std::uint64_t>((static_cast<Wide>(bits(index)) * bound) >> 64);
}

std::uint64_t stream_of(std::string_view name) {
  std::uint64_t h = 0xcbf29ce484222325u;
  for (unsigned char c : name) h = (h ^ c) * 0x100000001b3u;
  return h;
}

}  // namespace dujiang
