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
/// The rows of columns from `first` on, without a division for each; null beyond the last.
template <class E>
class ColumnRows {
 public:
  [[gnu::always_inline]] ColumnRows(const HeadRows& rows, const HeadGroup& h, Index first) {
    Index query = first / h.group, head = first % h.group;
    const Index count = min(column_block, h.columns() - first);
    for (Index c = 0; c < column_block; ++c) {
      at_[c] = c < count ? at<E>(rows, query, head) : nullptr;
      if (++head < h.group) continue;
      head = 0;
      ++query;
    }
  }
  [[gnu::always_inline]] typename E::Bits* operator()(Index c) const { return at_[c]; }

 private:
  typename E::Bits* at_[column_block];
};

/// How many keys each column from `first` on sees; those beyond the last, as many as it does.
DUJIANG_INLINE void limits(const HeadGroup& h, Index first, std::int32_t* limit) {
  const Index last = h.visible(min(first + column_block, h.columns()) - 1);
  Index sees = h.visible(first), head = first % h.group;
  for (Index c = 0; c < column_block; ++c) {
    limit[c] = static_cast<std::int32_t>(min(sees, last));
    if (++head < h.group) continue;
    head = 0;
    ++sees;
  }
}

/// Brings dim elements of a row near, ahead of their use.
template <class E>
DUJIANG_INLINE void prefetch_row(const typename E::Bits* row, Index dim) {
  for (Index x = 0; x < dim; x += 64 / static_cast<Index>(sizeof *row)) __builtin_prefetch(row + x);
}
template <class E>
DUJIANG_INLINE void prefetch_columns(const HeadRows& rows, const HeadGroup& h, Index first) {
  const ColumnRows<E> row(rows, h, first);
  for (Index c = 0; c < column_block && row(c) != nullptr; ++c) prefetch_row<E>(row(c), h.dim);
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
