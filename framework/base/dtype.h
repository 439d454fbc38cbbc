#pragma once
// Element types. bf16 and f16 are storage types: arithmetic happens in float.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace dujiang {

enum class Dtype : std::uint8_t { f32, bf16, f16, f64, i32, i64, u8, u16, u32, u64 };

std::size_t size_of(Dtype dtype);
/// The lower-case name used in messages and YAML: "f32", "bf16", ...
std::string_view name_of(Dtype dtype);
inline bool is_floating(Dtype d) {
  return d <= Dtype::f64;
}
/// bf16 or f16.
inline bool is_half(Dtype d) {
  return d == Dtype::bf16 || d == Dtype::f16;
}

/// bfloat16: the upper half of a float. Conversion from float rounds to nearest even and keeps NaN.
struct bf16 {
  std::uint16_t bits = 0;
  bf16() = default;
  explicit bf16(float value) {
    const auto u = std::bit_cast<std::uint32_t>(value);
    bits = (u & 0x7fffffffu) > 0x7f800000u ? static_cast<std::uint16_t>((u >> 16) | 0x40u)
                                           : static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
  operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
};

/// IEEE binary16. Conversion from float rounds to nearest even, overflows to infinity and keeps NaN.
struct f16 {
  std::uint16_t bits = 0;
  f16() = default;
  explicit f16(float value);
  operator float() const;
};

template <class T>
inline constexpr Dtype dtype_of = [] {
  static_assert(sizeof(T) == 0, "not an element type");
  return Dtype::f32;
}();
template <>
inline constexpr Dtype dtype_of<float> = Dtype::f32;
template <>
inline constexpr Dtype dtype_of<bf16> = Dtype::bf16;
template <>
inline constexpr Dtype dtype_of<f16> = Dtype::f16;
template <>
inline constexpr Dtype dtype_of<double> = Dtype::f64;
template <>
inline constexpr Dtype dtype_of<std::int32_t> = Dtype::i32;
template <>
inline constexpr Dtype dtype_of<std::int64_t> = Dtype::i64;
template <>
inline constexpr Dtype dtype_of<std::uint8_t> = Dtype::u8;
template <>
inline constexpr Dtype dtype_of<std::uint16_t> = Dtype::u16;
template <>
inline constexpr Dtype dtype_of<std::uint32_t> = Dtype::u32;
template <>
inline constexpr Dtype dtype_of<std::uint64_t> = Dtype::u64;

}  // namespace dujiang
