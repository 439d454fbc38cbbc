#pragma once
// XXH3's 128-bit hash as a value.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace dujiang::data {

using Hash128 = std::array<std::uint64_t, 2>;  // XXH3-128: low, high

/// XXH3 128-bit of the bytes.
Hash128 hash128(std::string_view bytes);

struct Hash128Hasher {
  std::size_t operator()(const Hash128& h) const { return h[0]; }
};

}  // namespace dujiang::data
