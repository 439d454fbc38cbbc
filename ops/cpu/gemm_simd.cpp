// A piece of b lies packed in panels; the rows of a part of a are read where they lie if their units already are in a
// row, else packed, and stay in the second-level cache while the panels pass by.

#include "ops/cpu/gemm_simd.h"

#include "ops/cpu/tile.h"

namespace dujiang::ops::cpu::DUJIANG_ISA {
namespace {

constexpr Index gemm_panel = tile_vectors * width;
/// A panel and the rows that pass by it share the second-level cache of processors with AVX-512, which can be read as
/// fast as they multiply; elsewhere a panel stays in the first-level cache.
constexpr Index gemm_depth = width == 16 ? 1024 : 384;

template <class C>
Index units_of(Index k) {
  return (k + C::per_unit - 1) / C::per_unit;
}

template <class C>
bool reads_in_place(const TiledProduct& p) {
  if constexpr (sizeof(typename C::E::Bits) * C::per_unit != sizeof(std::uint32_t)) return false;
  // A whole number of units in every row, each aligned.
  return p.a_column == 1 && p.k % C::per_unit == 0 && (p.m == 1 || p.a_row % C::per_unit == 0) &&
         reinterpret_cast<std::uintptr_t>(p.a) % sizeof(std::uint32_t) == 0;
}

template <class C>
Index panel_words(const TiledProduct& p) {
  return units_of<C>(min(p.k, gemm_depth)) * gemm_panel;
}

/// Of packed rows. Not a power of two, which would put the rows of a tile into the same places of the cache.
template <class C>
Index row_words(const TiledProduct& p) {
  return round_up(units_of<C>(min(p.k, gemm_depth)), width) + width;
}
template <class C>
Index rows_words(const TiledProduct& p) {
  return reads_in_place<C>(p) ? 0 : round_up(min(p.m, gemm_rows), width) * row_words<C>(p);
}

/// Sums are made where the result lies, if they are full vectors, and f32 or done in one piece.
template <class Out>
bool in_result(const TiledProduct& p) {
  return p.n % width == 0 && (sizeof(typename Out::Bits) == sizeof(float) || p.k <= gemm_depth);
}
Index sums_row(const TiledProduct& p, Index panels) {
  return p.k > gemm_depth ? panels * gemm_panel + width : gemm_panel;
}
template <class Out>
Index sums_floats(const TiledProduct& p, Index rows, Index panels) {
  return in_result<Out>(p) ? 0 : rows * sums_row(p, panels);
}

template <class C>
void pack(const TiledProduct& p, TiledDepth depth, Index panel, std::uint32_t* out) {
  const auto* b = static_cast<const typename C::E::Bits*>(p.b);
  const Index first = panel * gemm_panel, columns = min(gemm_panel, p.n - first), length = depth.end - depth.begin;
  if (p.b_column == 1) {
    pack_row_units<C>([&](Index r) { return b + (depth.begin + r) * p.b_row + first; }, length, columns, out,
                      gemm_panel);
  } else {
    pack_columns<C>([&](Index c) { return b + (first + c) * p.b_column + depth.begin; }, columns, length, out,
                    gemm_panel);
  }
}

template <class C>
void pack_rows_of_a(const TiledProduct& p, TiledDepth depth, Index first, Index rows, std::uint32_t* out) {
  const auto* a = static_cast<const typename C::E::Bits*>(p.a);
  const Index length = depth.end - depth.begin, ld = row_words<C>(p);
  if (p.a_column == 1) {
    pack_rows<C>([&](Index r) { return a + (first + r) * p.a_row + depth.begin; }, rows, length, out, ld);
  } else {
    pack_column_units<C>([&](Index k) { return a + (depth.begin + k) * p.a_column + first; }, length, rows, out, ld);
  }
}

template <class Out>
void write(const float* sums, Index sums_ld, typename Out::Bits* c, Index ld, Index rows, Index columns,
           bool accumulate) {
  for (Index r = 0; r < rows; ++r) {
    const float* from = sums + r * sums_ld;
    auto* to = c + r * ld;
    if (accumulate)
      sweep(columns, [&](Index i, auto lanes) {
        store(Out{}, to + i, load(Out{}, to + i, lanes) + load(F32{}, from + i), lanes);
      });
    else
      sweep(columns, [&](Index i, auto lanes) { store(Out{}, to + i, load(F32{}, from + i), lanes); });
  }
}

template <class C, class Out>
void multiply(const TiledProduct& p, TiledDepth depth, const TiledPart& part, std::uint32_t* packed) {
  const Index rows = part.end - part.begin, units = units_of<C>(depth.end - depth.begin);
  const std::uint32_t* a = packed;
  Index lda = row_words<C>(p);
  if (reads_in_place<C>(p)) {
    lda = units_of<C>(p.a_row);
    a = static_cast<const std::uint32_t*>(p.a) + part.begin * lda + depth.begin / C::per_unit;
  } else {
    pack_rows_of_a<C>(p, depth, part.begin, rows, packed);
  }
  const Index sums_ld = sums_row(p, part.last_panel - part.first_panel);
  for (Index panel = part.first_panel; panel < part.last_panel; ++panel) {
    const Index at = panel - part.first_panel, first = panel * gemm_panel, columns = min(gemm_panel, p.n - first);
    const auto into = [&]<class E>(E, typename E::Bits* c, Index ld, bool adds) {
      product<C>(rows, (columns + width - 1) / width, units, a, lda, part.panels + at * panel_words<C>(p), gemm_panel,
                 Target<E>{.c = c, .ld = ld, .into = adds ? Into::add : Into::set});
    };
    auto* const c = static_cast<typename Out::Bits*>(p.c) + part.begin * p.c_row + first;
    if (in_result<Out>(p)) {
      into(Out{}, c, p.c_row, depth.begin > 0 || p.accumulate);
      continue;
    }
    float* const sums = part.sums + (p.k > gemm_depth ? at * gemm_panel : 0);
    into(F32{}, sums, sums_ld, depth.begin > 0);
    if (depth.end == p.k) write<Out>(sums, sums_ld, c, p.c_row, rows, columns, p.accumulate);
  }
}

template <class C, class Out>
constexpr TiledGemm gemm = {.panel = gemm_panel,
                            .depth = gemm_depth,
                            .panel_words = panel_words<C>,
                            .rows_words = rows_words<C>,
                            .sums_floats = sums_floats<Out>,
                            .pack = pack<C>,
                            .multiply = multiply<C, Out>};

}  // namespace

const TiledGemms tiled_gemms = {.into_same = {gemm<Wide<F32>, F32>, gemm<OfBf16, Bf16>, gemm<Wide<F16>, F16>},
                                .into_f32 = {gemm<Wide<F32>, F32>, gemm<OfBf16, F32>, gemm<Wide<F16>, F32>}};

}  // namespace dujiang::ops::cpu::DUJIANG_ISA
