#pragma once
// Vectors for *_simd.cpp files, in GCC's vector extension: one source for every instruction set.
//
// A *_simd.cpp is compiled several times, so everything in it lies in namespace DUJIANG_ISA (a macro set by CMake) or
// has internal linkage, and it includes nothing but this header, <cstdint>, <cstddef> and headers of plain structs: an
// inline function of another header would be compiled with, say, AVX-512 and might be the copy that the linker keeps
// for everyone. A test reads the object files' symbols and fails on any such function.

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace dujiang::ops::cpu::DUJIANG_ISA {

#if defined(__AVX512F__)
inline constexpr int width = 16;
#elif defined(__AVX2__)
inline constexpr int width = 8;
#else
inline constexpr int width = 4;
#endif

typedef float Floats __attribute__((vector_size(width * 4)));
typedef std::int32_t Ints __attribute__((vector_size(width * 4)));
typedef std::uint32_t Words __attribute__((vector_size(width * 4)));
typedef std::uint16_t Halves __attribute__((vector_size(width * 2)));

#define DUJIANG_INLINE [[gnu::always_inline]] static inline

/// Element tags: bits in memory, arithmetic in Floats.
struct F32 {
  using Bits = float;
};
struct Bf16 {
  using Bits = std::uint16_t;
};
struct F16 {
  using Bits = std::uint16_t;
};

DUJIANG_INLINE Floats broadcast(float x) {
  return x - Floats{};
}

// GCC 12 splits these conversions in two halves where these sets have one instruction.
DUJIANG_INLINE Words widen(Halves h) {
#if defined(__AVX512F__)
  return (Words)_mm512_cvtepu16_epi32((__m256i)h);
#elif defined(__AVX2__)
  return (Words)_mm256_cvtepu16_epi32((__m128i)h);
#else
  return __builtin_convertvector(h, Words);
#endif
}
DUJIANG_INLINE Halves narrow(Words w) {
#if defined(__AVX512F__)
  return (Halves)_mm512_cvtepi32_epi16((__m512i)w);
#else
  return __builtin_convertvector(w, Halves);
#endif
}

DUJIANG_INLINE Floats load(F32, const float* p) {
  Floats v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
DUJIANG_INLINE Floats load(Bf16, const std::uint16_t* p) {
  Halves h;
  std::memcpy(&h, p, sizeof h);
  return (Floats)(widen(h) << 16);
}
DUJIANG_INLINE void store(F32, float* p, Floats v) {
  std::memcpy(p, &v, sizeof v);
}
/// Rounds to nearest even and keeps NaN, with the same bits on every instruction set.
DUJIANG_INLINE Halves to_bf16(Floats v) {
  const Words u = (Words)v;
  const Words rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const Words quiet = (u >> 16) | 0x40u;
  return narrow(v != v ? quiet : rounded);
}
/// The same but that subnormals may become zero (AVX512_BF16 flushes them, here and in its products): one instruction.
DUJIANG_INLINE Halves to_bf16_flushing(Floats v) {
#if defined(__AVX512BF16__)
  return (Halves)_mm512_cvtneps_pbh((__m512)v);
#else
  return to_bf16(v);
#endif
}
DUJIANG_INLINE void store(Bf16, std::uint16_t* p, Floats v) {
  const Halves h = to_bf16(v);
  std::memcpy(p, &h, sizeof h);
}
/// Where subnormals of bf16 don't matter.
template <class E>
DUJIANG_INLINE void store_flushing(E e, typename E::Bits* p, Floats v) {
  store(e, p, v);
}
DUJIANG_INLINE void store_flushing(Bf16, std::uint16_t* p, Floats v) {
  const Halves h = to_bf16_flushing(v);
  std::memcpy(p, &h, sizeof h);
}
#if defined(__AVX512F__)
DUJIANG_INLINE Floats load(F16, const std::uint16_t* p) {
  return (Floats)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
DUJIANG_INLINE void store(F16, std::uint16_t* p, Floats v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__AVX2__)
DUJIANG_INLINE Floats load(F16, const std::uint16_t* p) {
  return (Floats)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
DUJIANG_INLINE void store(F16, std::uint16_t* p, Floats v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
}
#else
// The arithmetic of framework/base/dtype.cpp, four lanes at a time.
DUJIANG_INLINE Floats load(F16, const std::uint16_t* p) {
  Halves h;
  std::memcpy(&h, p, sizeof h);
  const Words bits = __builtin_convertvector(h, Words);
  const Words sign = (bits & 0x8000u) << 16, magnitude = bits & 0x7fffu;
  const Words small = (Words)(__builtin_convertvector((Ints)magnitude, Floats) * broadcast(0x1p-24f));
  const Words normal = (magnitude << 13) + 0x38000000u;
  const Words special = ((magnitude & 0x3ffu) << 13) | 0x7f800000u;
  const Words is_small = (Words)(magnitude < 0x400u), is_special = (Words)(magnitude >= 0x7c00u);
  return (Floats)(sign | (is_small & small) | (is_special & special) | (~is_small & ~is_special & normal));
}
DUJIANG_INLINE void store(F16, std::uint16_t* p, Floats v) {
  const Words u = (Words)v;
  const Words sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
  const Words small = (Words)((Floats)magnitude + broadcast(0.5f)) - 0x3f000000u;
  const Words shifted = magnitude - 0x38000000u;
  const Words normal = (shifted + 0xfffu + ((shifted >> 13) & 1u)) >> 13;
  const Words is_nan = (Words)(magnitude > 0x7f800000u), is_big = (Words)(magnitude >= 0x477ff000u);
  const Words is_small = (Words)(magnitude < 0x38800000u);
  const Words big = 0x7c00u | (is_nan & 0x200u);
  const Words bits = sign | (is_big & big) | (is_small & small) | (~is_big & ~is_small & normal);
  const Halves h = __builtin_convertvector(bits, Halves);
  std::memcpy(p, &h, sizeof h);
}
#endif

/// The first n < width elements; the others are zero / not written.
template <class E>
DUJIANG_INLINE Floats load_some(E e, const typename E::Bits* p, std::ptrdiff_t n) {
  typename E::Bits buffer[width] = {};
#if defined(__AVX512F__)
  const auto mask = static_cast<__mmask16>((1u << n) - 1);
  if constexpr (sizeof *p == 4)
    _mm512_storeu_ps(buffer, _mm512_maskz_loadu_ps(mask, p));
  else
    _mm256_storeu_epi16(buffer, _mm256_maskz_loadu_epi16(mask, p));
#else
  for (std::ptrdiff_t i = 0; i < n; ++i) buffer[i] = p[i];
#endif
  return load(e, buffer);
}
template <class E>
DUJIANG_INLINE void store_some(E e, typename E::Bits* p, Floats v, std::ptrdiff_t n) {
  typename E::Bits buffer[width];
  store(e, buffer, v);
#if defined(__AVX512F__)
  const auto mask = static_cast<__mmask16>((1u << n) - 1);
  if constexpr (sizeof *p == 4)
    _mm512_mask_storeu_ps(p, mask, _mm512_loadu_ps(buffer));
  else
    _mm256_mask_storeu_epi16(p, mask, _mm256_loadu_epi16(buffer));
#else
  for (std::ptrdiff_t i = 0; i < n; ++i) p[i] = buffer[i];
#endif
}

/// How many lanes of a vector count: for loops whose last step is a partial one, written once for both.
struct All {};
struct Some {
  std::ptrdiff_t n;
};
template <class E>
DUJIANG_INLINE Floats load(E e, const typename E::Bits* p, All) {
  return load(e, p);
}
template <class E>
DUJIANG_INLINE Floats load(E e, const typename E::Bits* p, Some lanes) {
  return load_some(e, p, lanes.n);
}
template <class E>
DUJIANG_INLINE void store(E e, typename E::Bits* p, Floats v, All) {
  store(e, p, v);
}
template <class E>
DUJIANG_INLINE void store(E e, typename E::Bits* p, Floats v, Some lanes) {
  store_some(e, p, v, lanes.n);
}
template <class E>
DUJIANG_INLINE void store_flushing(E e, typename E::Bits* p, Floats v, All) {
  store_flushing(e, p, v);
}
template <class E>
DUJIANG_INLINE void store_flushing(E e, typename E::Bits* p, Floats v, Some lanes) {
  typename E::Bits buffer[width];
  store_flushing(e, buffer, v);
  store_some(e, p, load(e, buffer), lanes.n);
}
/// step(i, lanes) for i = 0, width, ... below n.
template <class Step>
DUJIANG_INLINE void sweep(std::ptrdiff_t n, Step&& step) {
  std::ptrdiff_t i = 0;
  for (; i + width <= n; i += width) step(i, All{});
  if (i < n) step(i, Some{n - i});
}

DUJIANG_INLINE Floats max(Floats a, Floats b) {
  return a > b ? a : b;
}
DUJIANG_INLINE Floats sqrt(Floats v) {
#if defined(__AVX512F__)
  return (Floats)_mm512_sqrt_ps((__m512)v);
#elif defined(__AVX2__)
  return (Floats)_mm256_sqrt_ps((__m256)v);
#else
  for (int i = 0; i < width; ++i) v[i] = __builtin_sqrtf(v[i]);
  return v;
#endif
}
/// Lane i of the result is lane i ^ step of v.
template <int step>
DUJIANG_INLINE Floats swapped(Floats v) {
  Ints order;
#pragma GCC unroll 16
  for (int lane = 0; lane < width; ++lane) order[lane] = lane ^ step;
  return __builtin_shuffle(v, order);
}
/// Over all lanes, halves onto halves.
template <int step = width / 2>
DUJIANG_INLINE float sum(Floats v) {
  if constexpr (step > 0) return sum<step / 2>(v + swapped<step>(v));
  return v[0];
}
template <int step = width / 2>
DUJIANG_INLINE float max(Floats v) {
  if constexpr (step > 0) return max<step / 2>(max(v, swapped<step>(v)));
  return v[0];
}

/// 1 / (1 + e^-x) to 4 ulp above -87; below, where it is under 2e-38, no more than that. NaN stays NaN. e^-x is
/// 2^n * p(r) with the polynomial of Cephes' expf.
DUJIANG_INLINE Floats sigmoid(Floats x) {
  const Floats low = broadcast(-87.0f), high = broadcast(87.0f), shift = broadcast(0x1.8p23f);
#if defined(__AVX512F__)
  // The second operand where one is NaN.
  const Floats t = (Floats)_mm512_min_ps((__m512)high, _mm512_max_ps((__m512)low, (__m512)-x));
#else
  const Floats y = -x, above = low > y ? low : y, t = high < above ? high : above;
#endif
  const Floats shifted = t * 1.44269504088896341f + shift, n = shifted - shift;
  Floats r = t - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  Floats p = broadcast(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  return 1.0f / (1.0f + (Floats)((Words)p + ((Words)shifted << 23)));
}

}  // namespace dujiang::ops::cpu::DUJIANG_ISA
