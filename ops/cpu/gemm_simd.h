#pragma once
// Our own matrix product, by instruction set. Plain structs: *_simd.cpp include this.

#include <cstdint>

#include "ops/cpu/isa.h"

namespace dujiang::ops::cpu {

inline constexpr std::int64_t gemm_rows = 192;      ///< rows of a part, at most: what is multiplied stays in a cache
inline constexpr std::int64_t gemm_columns = 2048;  ///< that are packed at once

/// c [m, n] = or += a [m, k] · b [k, n]. Element (r, c) of an operand lies at data[r * row + c * column] (elements);
/// one of an input's strides is 1, and c's column stride.
struct TiledProduct {
  const void *a, *b;
  void* c;
  std::int64_t a_row, a_column, b_row, b_column, c_row;
  std::int64_t m, n, k;
  bool accumulate;
};

/// Of k, the elements [begin, end): as many as are multiplied at once.
struct TiledDepth {
  std::int64_t begin, end;
};

/// The rows [begin, end) of a product, at most gemm_rows, with the panels [first_panel, last_panel).
struct TiledPart {
  std::int64_t begin, end, first_panel, last_panel;
  const std::uint32_t* panels;  ///< those of b from first_panel on, packed
  float* sums;                  ///< where sums_floats() of them are kept from one part of k to the next
};

/// For one dtype of the inputs and one of the output. Every element is a sum in f32 over k in one order, so it depends
/// neither on how a product is cut into parts nor on its other rows and columns.
struct TiledGemm {
  std::int64_t panel;                                        ///< columns that are packed together
  std::int64_t depth;                                        ///< of k that is multiplied at once
  std::int64_t (*panel_words)(const TiledProduct& product);  ///< of a packed panel
  std::int64_t (*rows_words)(const TiledProduct& product);   ///< of a part's packed rows; 0 where they need no packing
  std::int64_t (*sums_floats)(const TiledProduct& product, std::int64_t rows, std::int64_t panels);
  void (*pack)(const TiledProduct& product, TiledDepth depth, std::int64_t panel, std::uint32_t* out);
  /// Multiplies a part; `rows` is for packing. All pieces of k in their order make the product.
  void (*multiply)(const TiledProduct& product, TiledDepth depth, const TiledPart& part, std::uint32_t* rows);
};

/// By dtype: f32, bf16, f16.
struct TiledGemms {
  TiledGemm into_same[3], into_f32[3];
};

DUJIANG_SIMD_TABLE(TiledGemms, tiled_gemms)

}  // namespace dujiang::ops::cpu
