#pragma once
// Packing and small matrix products. For *_simd.cpp files only.
//
// Products take units: a float, or where the set multiplies bf16 pairs (vdpbf16ps) two neighbours along the summed
// axis in 32 bits. So a packed operand is a matrix of 32-bit units, and one transposition serves all of them.

#include "ops/cpu/simd.h"

namespace dujiang::ops::cpu::DUJIANG_ISA {

using Index = std::int64_t;

DUJIANG_INLINE Index min(Index a, Index b) {
  return a < b ? a : b;
}
DUJIANG_INLINE Index round_up(Index n, Index to) {
  return (n + to - 1) / to * to;
}

DUJIANG_INLINE Words load_words(const std::uint32_t* p) {
  Words w;
  std::memcpy(&w, p, sizeof w);
  return w;
}
DUJIANG_INLINE void store_words(std::uint32_t* p, Words w) {
  std::memcpy(p, &w, sizeof w);
}
DUJIANG_INLINE Words broadcast_word(const std::uint32_t* p) {
  return Words{} + *p;
}

/// Element type E multiplied as f32.
template <class Element>
struct Wide {
  using E = Element;
  static constexpr int per_unit = 1;

  /// acc + a * b for each lane, unit by unit.
  DUJIANG_INLINE Floats multiply_add(Words a, Words b, Floats acc) { return (Floats)a * (Floats)b + acc; }
  /// Units x .. x + width along a row of n elements; zero beyond.
  DUJIANG_INLINE Words along(const typename E::Bits* row, Index x, Index n) {
    return (Words)(n - x >= width ? load(E{}, row + x) : load_some(E{}, row + x, n - x));
  }
  /// The units of a cache line of elements from x on that pair neighbouring rows: of `row` alone here. Zero beyond n.
  static constexpr int line = 64 / sizeof(typename E::Bits) / width;  ///< vectors of them
  DUJIANG_INLINE void across(const typename E::Bits* row, const typename E::Bits*, Index x, Index n, Words* v) {
    for (int i = 0; i < line; ++i) v[i] = x + i * width < n ? along(row, x + i * width, n) : Words{};
  }
};

#if defined(__AVX512BF16__)
/// bf16 multiplied in pairs.
struct Pairs {
  using E = Bf16;
  static constexpr int per_unit = 2;

  DUJIANG_INLINE Floats multiply_add(Words a, Words b, Floats acc) {
    return (Floats)_mm512_dpbf16_ps((__m512)acc, (__m512bh)a, (__m512bh)b);
  }
  DUJIANG_INLINE Words along(const std::uint16_t* row, Index x, Index n) {
    Words w{};
    if (n - 2 * x >= 2 * width)
      std::memcpy(&w, row + 2 * x, sizeof w);
    else
      std::memcpy(&w, row + 2 * x, static_cast<std::size_t>(n - 2 * x) * 2);
    return w;
  }
  static constexpr int line = 2;
  DUJIANG_INLINE __m512i some(const std::uint16_t* row, Index x, Index n) {
    if (row == nullptr) return __m512i{};
    if (n - x >= 2 * width) return _mm512_loadu_si512(row + x);
    return _mm512_maskz_loadu_epi16((1u << (n - x)) - 1, row + x);
  }
  DUJIANG_INLINE void across(const std::uint16_t* row, const std::uint16_t* next, Index x, Index n, Words* v) {
    const __m512i order = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6,
                                           37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i low = some(row, x, n), high = some(next, x, n);
    v[0] = (Words)_mm512_permutex2var_epi16(low, order, high);
    v[1] = (Words)_mm512_permutex2var_epi16(low, _mm512_add_epi16(order, _mm512_set1_epi16(16)), high);
  }
  /// The pairs (low[i], high[i]).
  DUJIANG_INLINE Words pair(Floats low, Floats high) {
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return (Words)_mm512_permutexvar_epi16(order, (__m512i)join(low, high));
  }
  /// The pairs (a[0], a[1]), ..., (b[0], b[1]), ...
  DUJIANG_INLINE Words join(Floats a, Floats b) { return (Words)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a); }
};
#endif

/// How this set multiplies bf16.
#if defined(__AVX512BF16__)
using OfBf16 = Pairs;
#else
using OfBf16 = Wide<Bf16>;
#endif

template <int step>
DUJIANG_INLINE void swap_blocks(Words* v) {
  Words low, high;
#pragma GCC unroll 16
  for (int lane = 0; lane < width; ++lane) {
    low[lane] = static_cast<std::uint32_t>(lane & step ? lane - step + width : lane);
    high[lane] = static_cast<std::uint32_t>(lane & step ? lane + width : lane + step);
  }
#pragma GCC unroll 16
  for (int i = 0; i < width; ++i) {
    if (i & step) continue;
    const Words a = v[i], b = v[i + step];
    v[i] = __builtin_shuffle(a, b, low);
    v[i + step] = __builtin_shuffle(a, b, high);
  }
}
/// What unpack instructions do, which cost half of a general permutation: in every 128 bits the lower (or upper) halves
/// of a and b, element by element in turn.
template <class Element, bool upper>
DUJIANG_INLINE Words interleave(Words a, Words b) {
  typedef Element Elements __attribute__((vector_size(width * 4)));
  constexpr int lanes = sizeof(Elements) / sizeof(Element), group = 16 / sizeof(Element);
  Elements order;
#pragma GCC unroll 16
  for (int i = 0; i < lanes; ++i)
    order[i] = static_cast<Element>(i / group * group + (upper ? group / 2 : 0) + i % group / 2 + (i % 2) * lanes);
  return (Words)__builtin_shuffle((Elements)a, (Elements)b, order);
}
/// Transposes a width x width matrix of words.
DUJIANG_INLINE void transpose(Words* v) {
#pragma GCC unroll 4
  for (int i = 0; i < width; i += 4) {
    const Words a = interleave<std::uint32_t, false>(v[i], v[i + 1]),
                b = interleave<std::uint32_t, false>(v[i + 2], v[i + 3]);
    const Words c = interleave<std::uint32_t, true>(v[i], v[i + 1]),
                d = interleave<std::uint32_t, true>(v[i + 2], v[i + 3]);
    v[i] = interleave<std::uint64_t, false>(a, b);
    v[i + 1] = interleave<std::uint64_t, true>(a, b);
    v[i + 2] = interleave<std::uint64_t, false>(c, d);
    v[i + 3] = interleave<std::uint64_t, true>(c, d);
  }
  if constexpr (width > 4) swap_blocks<4>(v);
  if constexpr (width > 8) swap_blocks<8>(v);
}

/// out[r][u] = unit u along row r, for r < rows; stride `ld` >= the row's units rounded up to width. row(r) is null
/// beyond the last row.
template <class C, class Row>
DUJIANG_INLINE void pack_rows(Row row, Index rows, Index dim, std::uint32_t* out, Index ld) {
  const Index units = (dim + C::per_unit - 1) / C::per_unit;
  for (Index r = 0; r < rows; ++r) {
    const auto* p = row(r);
    for (Index u = 0; u < units; u += width)
      store_words(out + r * ld + u, p != nullptr ? C::along(p, u, dim) : Words{});
  }
}

/// out[u][r] = unit u along row r; stride ld >= rows rounded up to width.
template <class C, class Row>
DUJIANG_INLINE void pack_columns(Row row, Index rows, Index dim, std::uint32_t* out, Index ld) {
  const Index units = (dim + C::per_unit - 1) / C::per_unit;
  for (Index r = 0; r < rows; r += width) {
    for (Index u = 0; u < units; u += width) {
      Words v[width];
      for (int i = 0; i < width; ++i) {
        const auto* p = r + i < rows ? row(r + i) : nullptr;
        v[i] = p != nullptr ? C::along(p, u, dim) : Words{};
      }
      transpose(v);
      for (Index i = 0; i < min(width, units - u); ++i) store_words(out + (u + i) * ld + r, v[i]);
    }
  }
}

/// out[r][x] = element x of rows r * per_unit ...; stride ld >= dim rounded up to width.
template <class C, class Row>
DUJIANG_INLINE void pack_row_units(Row row, Index rows, Index dim, std::uint32_t* out, Index ld) {
  for (Index r = 0; r < rows; r += C::per_unit) {
    const auto* p = row(r);
    const auto* next = C::per_unit > 1 && r + 1 < rows ? row(r + 1) : nullptr;
    for (Index x = 0; x < dim; x += C::line * width) {
      Words v[C::line] = {};
      if (p != nullptr) C::across(p, next, x, dim, v);
      for (Index i = 0; i < C::line && x + i * width < dim; ++i)
        store_words(out + r / C::per_unit * ld + x + i * width, v[i]);
    }
  }
}

/// out[x][r] = element x of rows r * per_unit ...; stride ld >= rows / per_unit rounded up to width.
template <class C, class Row>
DUJIANG_INLINE void pack_column_units(Row row, Index rows, Index dim, std::uint32_t* out, Index ld) {
  constexpr Index round = width * C::per_unit;
  for (Index first = 0; first < rows; first += round) {
    for (Index x = 0; x < dim; x += C::line * width) {
      for (Index r = first + round; r < min(first + 2 * round, rows); ++r)
        if (const auto* ahead = row(r); ahead != nullptr) __builtin_prefetch(ahead + x, 0, 2);
      Words v[C::line][width];
      for (int i = 0; i < width; ++i) {
        const Index r = first + i * C::per_unit;
        const auto* p = r < rows ? row(r) : nullptr;
        const auto* next = C::per_unit > 1 && r + 1 < rows ? row(r + 1) : nullptr;
        Words line[C::line] = {};
        if (p != nullptr) C::across(p, next, x, dim, line);
        for (int b = 0; b < C::line; ++b) v[b][i] = line[b];
      }
      for (int b = 0; b < C::line; ++b) {
        transpose(v[b]);
        for (Index i = 0; i < min(width, dim - x - b * width); ++i)
          store_words(out + (x + b * width + i) * ld + first / C::per_unit, v[b][i]);
      }
    }
  }
}

/// Rows of E from their transpose: row(c)[x] = from[x][c] * factor[c], for columns c < columns and x < dim.
template <class E, class Row>
DUJIANG_INLINE void unpack_columns(const float* from, Index ld, Index columns, Index dim, const float* factor,
                                   Row row) {
  for (Index c = 0; c < columns; c += width) {
    const Floats f = load(F32{}, factor + c);
    for (Index x = 0; x < dim; x += width) {
      Words v[width];
      for (int i = 0; i < width; ++i) v[i] = x + i < dim ? (Words)(load(F32{}, from + (x + i) * ld + c) * f) : Words{};
      transpose(v);
      for (Index i = 0; i < min(width, columns - c); ++i) {
        auto* p = row(c + i) + x;
        if (dim - x >= width)
          store(E{}, p, (Floats)v[i]);
        else
          store_some(E{}, p, (Floats)v[i], dim - x);
      }
    }
  }
}

/// Vectors of columns in a tile, at most.
inline constexpr int tile_vectors = width == 16 ? 4 : 2;

/// What happens to a product that is done.
enum class Into { set, add, blend };  ///< c = p; c += p; c = c * column[.] + p

/// A product is read and written as elements of E, rounded once; like those of what is multiplied, subnormals of bf16
/// may become zero.
template <class E = F32>
struct Target {
  typename E::Bits* c;
  Index ld;
  Into into;
  const float* column = nullptr;
};

template <class C, int R, int V, class E>
DUJIANG_INLINE void product_tile(const std::uint32_t* a, Index lda, const std::uint32_t* b, Index ldb, Index units,
                                 const Target<E>& t, Index row, Index col) {
  const Index ld = t.ld;  // a copy: the compiler must take t for overwritten by the stores
  auto* const c = t.c + row * ld + col;
  if (t.into == Into::add)  // on its way while the sums are made
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < V; ++v) __builtin_prefetch(c + r * ld + v * width, 1);
  Floats acc[R][V] = {};
  for (Index k = 0; k < units; ++k) {
    Words bk[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) bk[v] = load_words(b + k * ldb + v * width);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const Words ar = broadcast_word(a + r * lda + k);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) acc[r][v] = C::multiply_add(ar, bk[v], acc[r][v]);
    }
  }
  switch (t.into) {
    case Into::set:
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) store_flushing(E{}, c + r * ld + v * width, acc[r][v]);
      break;
    case Into::add:
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v)
          store_flushing(E{}, c + r * ld + v * width, load(E{}, c + r * ld + v * width) + acc[r][v]);
      break;
    case Into::blend:
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const Floats f = load(F32{}, t.column + col + v * width);
#pragma GCC unroll 12
        for (int r = 0; r < R; ++r)
          store_flushing(E{}, c + r * ld + v * width, load(E{}, c + r * ld + v * width) * f + acc[r][v]);
      }
      break;
  }
}

/// The rows of one panel of V vectors. Tall enough to hide the latency of the multiply-add, within the registers.
template <class C, int V, class E>
static void product_panel(Index rows, const std::uint32_t* a, Index lda, const std::uint32_t* b, Index ldb, Index units,
                          const Target<E>& t, Index col) {
  constexpr int tall = (width == 16 && V <= 2) || V == 1 ? 12 : 6;
  Index r = 0;
  for (; r + tall <= rows; r += tall) product_tile<C, tall, V>(a + r * lda, lda, b, ldb, units, t, r, col);
  for (; r + 4 <= rows; r += 4) product_tile<C, 4, V>(a + r * lda, lda, b, ldb, units, t, r, col);
  for (; r + 2 <= rows; r += 2) product_tile<C, 2, V>(a + r * lda, lda, b, ldb, units, t, r, col);
  for (; r < rows; ++r) product_tile<C, 1, V>(a + r * lda, lda, b, ldb, units, t, r, col);
}

/// p[row][col] = sum over k < units of a[row][k] . b[k][col], for `vectors` vectors of columns.
template <class C, class E>
static void product(Index rows, Index vectors, Index units, const std::uint32_t* a, Index lda, const std::uint32_t* b,
                    Index ldb, const Target<E>& t) {
  constexpr int wide = tile_vectors;
  Index v = 0;
  for (; v + wide <= vectors; v += wide) product_panel<C, wide>(rows, a, lda, b + v * width, ldb, units, t, v * width);
  if constexpr (wide > 3)
    if (v + 3 == vectors) return product_panel<C, 3>(rows, a, lda, b + v * width, ldb, units, t, v * width);
  if constexpr (wide > 2)
    if (v + 2 == vectors) return product_panel<C, 2>(rows, a, lda, b + v * width, ldb, units, t, v * width);
  if (v + 1 == vectors) product_panel<C, 1>(rows, a, lda, b + v * width, ldb, units, t, v * width);
}

namespace {

/// Hands out pieces of scratch memory, each aligned to 64 bytes. Started at null it measures.
class Arena {
 public:
  explicit Arena(void* memory) : memory_(static_cast<char*>(memory)) {}
  template <class T>
  T* take(Index count) {
    T* p = memory_ != nullptr ? reinterpret_cast<T*>(memory_ + used_) : nullptr;
    used_ += round_up(count * static_cast<Index>(sizeof(T)), 64);
    return p;
  }
  Index used() const { return used_; }

 private:
  char* memory_;
  Index used_ = 0;
};

}  // namespace
}  // namespace dujiang::ops::cpu::DUJIANG_ISA
