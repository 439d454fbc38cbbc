#pragma once
// What the ranks of the conformance suite contribute, and what must come of it.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "comm/operation.h"
#include "framework/base/dtype.h"

namespace dujiang::comm::oracle {

inline std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

// What rank `rank` contributes at `index`: of mixed sign and of magnitudes from 2^-8 to 2^8, so that the bits of a sum
// depend on its order. Some elements are NaN or infinite on one rank.
template <class T>
T value_at(int rank, std::int64_t index, std::uint64_t salt) {
  const std::uint64_t h = mix(static_cast<std::uint64_t>(index) * 64 + static_cast<std::uint64_t>(rank) + (salt << 40));
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(h);
  } else {
    if (index % 61 == 17 && rank == static_cast<int>(index / 61 % 3)) {
      const double special[] = {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(),
                                -std::numeric_limits<double>::infinity()};
      return T(static_cast<float>(special[index / 61 % 7 % 3]));
    }
    const double unit = static_cast<double>(h >> 12) * 0x1p-52 - 0.5;
    const double value = unit * std::bit_cast<double>((1023 - 8 + h % 17) << 52);  // the power of two
    if constexpr (std::is_same_v<T, double>) return value;
    return T(static_cast<float>(value));
  }
}

template <class T>
using PartialOf = std::conditional_t<std::is_same_v<T, bf16> || std::is_same_v<T, f16>, float, T>;

template <class P>
P pair_of(Reduce reduce, P a, P b) {
  if constexpr (std::is_floating_point_v<P>) {
    if (reduce == Reduce::max || reduce == Reduce::min) {
      if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<P>::quiet_NaN();
    }
  }
  if (reduce == Reduce::max) return std::max(b, a);
  if (reduce == Reduce::min) return std::min(b, a);
  if constexpr (std::is_integral_v<P>) {
    return static_cast<P>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
  } else {
    return a + b;
  }
}

// The definition: the tree over [first, first + n).
template <class T>
PartialOf<T> tree(Reduce reduce, int first, int n, std::int64_t index, std::uint64_t salt) {
  if (n == 1) return static_cast<PartialOf<T>>(value_at<T>(first, index, salt));
  int left = 1;
  while (left * 2 < n) left *= 2;
  return pair_of(reduce, tree<T>(reduce, first, left, index, salt),
                 tree<T>(reduce, first + left, n - left, index, salt));
}

template <class T>
T reduced(Reduce reduce, int n, std::int64_t index, std::uint64_t salt) {
  if (n == 1) return value_at<T>(0, index, salt);
  PartialOf<T> value = tree<T>(reduce, 0, n, index, salt);
  if (reduce == Reduce::avg) value = static_cast<PartialOf<T>>(value / static_cast<PartialOf<T>>(n));
  return static_cast<T>(value);
}

template <class T>
bool same_bits(T a, T b) {
  if constexpr (!std::is_integral_v<T>) {
    if (std::isnan(static_cast<double>(a)) && std::isnan(static_cast<double>(b))) return true;  // whatever its payload
  }
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

// Whether `value` may come of a reduction in whatever order, each partial rounded to T. A floating sum of n terms then
// errs by at most n roundings of the sum of their magnitudes; one more where a rank's own term is rounded first, as
// half types are. An average scales each term before it adds. Which ranks' NaN survives max and min is the vendor's.
template <class T>
bool may_come_of(Reduce reduce, int n, std::int64_t index, std::uint64_t salt, T value) {
  if (std::is_integral_v<T> || n == 1) return same_bits(value, reduced<T>(reduce, n, index, salt));
  using Wide = long double;
  if (reduce == Reduce::max || reduce == Reduce::min) {
    bool nan = false, is_one = std::isnan(static_cast<double>(value));
    for (int r = 0; r < n; ++r) {
      const T one = value_at<T>(r, index, salt);
      nan = nan || std::isnan(static_cast<double>(one));
      is_one = is_one || same_bits(one, value);
    }
    return nan ? is_one : same_bits(value, reduced<T>(reduce, n, index, salt));
  }
  Wide exact = 0, magnitude = 0;
  for (int r = 0; r < n; ++r) {
    const auto one = static_cast<Wide>(static_cast<double>(value_at<T>(r, index, salt)));
    exact += one;
    magnitude += std::abs(one);
  }
  if (reduce == Reduce::avg) exact /= n, magnitude /= n;
  const auto got = static_cast<Wide>(static_cast<double>(value));
  if (std::isnan(exact)) return std::isnan(got);
  if (std::isinf(exact)) return got == exact;
  constexpr Wide epsilon = std::is_same_v<T, bf16>    ? 0x1p-7L
                           : std::is_same_v<T, f16>   ? 0x1p-10L
                           : std::is_same_v<T, float> ? 0x1p-23L
                                                      : 0x1p-52L;
  const int roundings = sizeof(T) == 2 ? n + 1 : n;
  return std::abs(got - exact) <= roundings * epsilon * magnitude;
}

}  // namespace dujiang::comm::oracle
