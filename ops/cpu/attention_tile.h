#pragma once
// What attention's passes share. For *_simd.cpp files only.

#include "ops/cpu/attention_simd.h"
#include "ops/cpu/simd_exp2.h"
#include "ops/cpu/tile.h"

namespace dujiang::ops::cpu::DUJIANG_ISA {

inline constexpr float infinity = __builtin_inff();

/// Units along a row of packed keys.
template <class C>
DUJIANG_INLINE Index key_ld(Index dim) {
  return round_up((dim + C::per_unit - 1) / C::per_unit, width);
}

template <class E>
DUJIANG_INLINE typename E::Bits* at(const HeadRows& rows, Index row, Index head = 0) {
  return static_cast<typename E::Bits*>(rows.data) + row * rows.row_stride + head * rows.head_stride;
}
/// The row of column c.
template <class E>
DUJIANG_INLINE typename E::Bits* at_column(const HeadRows& rows, const HeadGroup& h, Index c) {
  return at<E>(rows, c / h.group, c % h.group);
}

/// Brings the rows of a block of columns near, ahead of their use.
template <class E>
DUJIANG_INLINE void prefetch_columns(const HeadRows& rows, const HeadGroup& h, Index first) {
  const Index end = min(first + column_block, h.columns());
  for (Index c = first; c < end; ++c) {
    const auto* p = reinterpret_cast<const char*>(at_column<E>(rows, h, c));
    for (Index byte = 0; byte < h.dim * static_cast<Index>(sizeof(typename E::Bits)); byte += 64)
      __builtin_prefetch(p + byte);
  }
}

/// Scores [rows][column_block] of keys that a column does not see become minus infinity.
DUJIANG_INLINE void mask(float* scores, Index rows, Index vectors, Index first_key, const std::int32_t* limit) {
  for (Index v = 0; v < vectors; ++v) {
    Ints see;
    std::memcpy(&see, limit + v * width, sizeof see);
    see -= static_cast<std::int32_t>(first_key);
    for (Index r = 0; r < rows; ++r) {
      float* p = scores + r * column_block + v * width;
      const Floats s = load(F32{}, p);
      store(F32{}, p, see > static_cast<std::int32_t>(r) ? s : broadcast(-infinity));
    }
  }
}

}  // namespace dujiang::ops::cpu::DUJIANG_ISA
