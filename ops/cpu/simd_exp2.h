#pragma once
// 2^x for softmax, where x <= 0 up to rounding: shorter than the general exp of simd.h. For *_simd.cpp files only.

#include "ops/cpu/simd.h"

namespace dujiang::ops::cpu::DUJIANG_ISA {

inline constexpr float log2_e = 1.44269504088896341f, ln_2 = 0.693147180559945309f;

/// 2^x to 2 ulp for -126 <= x <= 126 (the polynomial of Cephes' exp2f), below 2^-125 for any smaller x, exactly 0 for
/// minus infinity; NaN stays NaN.
DUJIANG_INLINE Floats exp2(Floats x) {
  const Floats low = broadcast(-127.0f), shift = broadcast(0x1.8p23f);
#if defined(__AVX512F__)
  const Floats t = (Floats)_mm512_max_ps((__m512)low, (__m512)x);  // the second where one is NaN
#else
  const Floats t = low > x ? low : x;
#endif
  const Floats shifted = t + shift;  // its low bits are the nearest integer to t
  const Floats r = t - (shifted - shift);
  Floats p = broadcast(1.535336188319500e-4f);
  p = p * r + 1.339887440266574e-3f;
  p = p * r + 9.618437357674640e-3f;
  p = p * r + 5.550332471162809e-2f;
  p = p * r + 2.402264791363012e-1f;
  p = p * r + 6.931472028550421e-1f;
  p = p * r + 1.0f;
  return (Floats)((Words)p + ((Words)shifted << 23));
}

}  // namespace dujiang::ops::cpu::DUJIANG_ISA
