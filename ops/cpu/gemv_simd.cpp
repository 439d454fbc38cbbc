// Products with few rows, which are bound by reading the weight: each of its rows is read once, as it lies, and
// multiplied with all rows of x while it is near. A tile has as many sums as a vector has lanes, whatever its form, so
// that one transposition adds up their lanes; a sum's bits depend on k alone.

#include "ops/cpu/gemv_simd.h"

#include "ops/cpu/simd.h"

namespace dujiang::ops::cpu::DUJIANG_ISA {
namespace {

using Index = std::ptrdiff_t;

/// What a step along k multiplies: a vector of the weight's elements as floats with one of x, which is f32 already,
template <class Element>
struct Wide {
  using E = Element;
  using X = F32;
  static constexpr int step = width;
  template <class T>
  DUJIANG_INLINE Floats load_step(T t, const typename T::Bits* p) {
    return load(t, p);
  }
  template <class T>
  DUJIANG_INLINE Floats load_rest(T t, const typename T::Bits* p, Index n) {
    return load_some(t, p, n);
  }
  DUJIANG_INLINE Floats multiply_add(Floats a, Floats b, Floats sum) { return a * b + sum; }
};

#if defined(__AVX512BF16__)
/// or twice as many bf16.
struct Pairs {
  using E = Bf16;
  using X = Bf16;
  static constexpr int step = 2 * width;
  DUJIANG_INLINE Words load_step(Bf16, const std::uint16_t* p) {
    Words w;
    std::memcpy(&w, p, sizeof w);
    return w;
  }
  DUJIANG_INLINE Words load_rest(Bf16, const std::uint16_t* p, Index n) {
    return (Words)_mm512_maskz_loadu_epi16((1u << n) - 1, p);
  }
  DUJIANG_INLINE Floats multiply_add(Words a, Words b, Floats sum) {
    return (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
  }
};
#endif

/// Lane i: the sum of v[i]'s lanes.
template <int count>
DUJIANG_INLINE void add_lanes(Floats* v) {
  if constexpr (count > 1) {
    constexpr int step = width / count;
    Ints low, high;
#pragma GCC unroll 16
    for (int lane = 0; lane < width; ++lane) {
      low[lane] = lane & step ? lane - step + width : lane;
      high[lane] = lane & step ? lane + width : lane + step;
    }
#pragma GCC unroll 16
    for (int i = 0; i < count / 2; ++i)
      v[i] = __builtin_shuffle(v[2 * i], v[2 * i + 1], low) + __builtin_shuffle(v[2 * i], v[2 * i + 1], high);
    add_lanes<count / 2>(v);
  }
}

/// Whether a tile reads one row at a time: faster than four where elements must be widened, slower where not.
template <class C>
constexpr bool row_by_row = width < 16 && sizeof(typename C::E::Bits) == 2;
/// Of a tile's rows, those that are read at once; the sums of each, which take steps along k in turn; and how far ahead
/// of its use a row is fetched, in bytes (at least the rows that are read at once).
template <class C>
constexpr int rows_together = row_by_row<C> ? 1 : 4;
template <class C>
constexpr int sums_in_turn = row_by_row<C> ? 2 : 1;
template <class C>
constexpr Index fetched_ahead = row_by_row<C> ? 512 : 16384;

/// Rows of the weight from `row` and of x from `first`; those past the end are the last one again, and not written.
template <class C, class Out, int M>
DUJIANG_INLINE void tile(const GemvRows& g, Index row, Index first) {
  using Bits = typename C::E::Bits;
  using XBits = typename C::X::Bits;
  constexpr int R = width / M, together = R < rows_together<C> ? R : rows_together<C>;
  constexpr int turns = sums_in_turn<C>;
  const XBits* x[M];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
    x[m] = static_cast<const XBits*>(g.x) + (first + m < g.m ? first + m : g.m - 1) * g.x_stride;
  constexpr Index distance = fetched_ahead<C> / static_cast<Index>(sizeof(Bits));
  const Index step = together * g.weight_stride, ahead = (distance + step - 1) / step * step;
  Floats sums[width] = {};
#pragma GCC unroll 8
  for (int group = 0; group < R; group += together) {
    const Bits* w[together];
#pragma GCC unroll 4
    for (int r = 0; r < together; ++r)
      w[r] = static_cast<const Bits*>(g.weight) + (row + group + r < g.n ? row + group + r : g.n - 1) * g.weight_stride;
    Floats of_group[turns][together][M] = {};
    const auto add = [&](int turn, auto&& load_at) __attribute__((always_inline)) {
      decltype(load_at(typename C::E{}, w[0])) wk[together];
#pragma GCC unroll 4
      for (int r = 0; r < together; ++r) wk[r] = load_at(typename C::E{}, w[r]);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
        const auto xk = load_at(typename C::X{}, x[m]);
#pragma GCC unroll 4
        for (int r = 0; r < together; ++r) of_group[turn][r][m] = C::multiply_add(wk[r], xk, of_group[turn][r][m]);
      }
    };
    const auto add_step = [&](int turn, Index k) __attribute__((always_inline)) {
      add(
          turn, [k](auto e, const auto* p) __attribute__((always_inline)) { return C::load_step(e, p + k); });
    };
    Index k = 0;
    for (; k + turns * C::step <= g.k; k += turns * C::step) {
#pragma GCC unroll 2
      for (int turn = 0; turn < turns; ++turn) add_step(turn, k + turn * C::step);
#pragma GCC unroll 4
      for (int r = 0; r < together; ++r) __builtin_prefetch(w[r] + k + ahead, 0, 3);
    }
    for (; k + C::step <= g.k; k += C::step) add_step(0, k);
    if (k < g.k)
      add(
          0,
          [ k, &g ](auto e, const auto* p) __attribute__((always_inline)) { return C::load_rest(e, p + k, g.k - k); });
#pragma GCC unroll 4
    for (int r = 0; r < together; ++r)
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
        Floats& sum = sums[(group + r) * M + m];
        sum = of_group[0][r][m];
        if constexpr (turns > 1) sum += of_group[turns - 1][r][m];
      }
  }
  add_lanes<width>(sums);

  typename Out::Bits out[width];
  auto* const y = static_cast<typename Out::Bits*>(g.y) + first * g.y_stride + row;
  const auto each = [&](auto&& body) __attribute__((always_inline)) {
    for (int r = 0; r < R && row + r < g.n; ++r)
      for (int m = 0; m < M && first + m < g.m; ++m) body(y[m * g.y_stride + r], out[r * M + m]);
  };
  if (g.accumulate) {
    each([](auto& to, auto& value) { value = to; });
    sums[0] += load(Out{}, out);
  }
  store(Out{}, out, sums[0]);
  each([](auto& to, auto& value) { to = value; });
}

template <class C, class Out, int M>
void rows(const GemvRows& g) {
  for (Index row = 0; row < g.n; row += width / M)
    for (Index first = 0; first < g.m; first += M) tile<C, Out, M>(g, row, first);
}

/// The tiles nearest to square load least for what they multiply.
template <class C, class Out>
void gemv(const GemvRows& g) {
  constexpr int most = width > 4 ? 4 : 2;
  if (g.m == 1) return rows<C, Out, 1>(g);
  if (g.m == 2) return rows<C, Out, 2>(g);
  return rows<C, Out, most>(g);
}

#if defined(__AVX512BF16__)
using Bf16Steps = Pairs;
#else
using Bf16Steps = Wide<Bf16>;
#endif

template <class E>
void widen(const void* x, float* out, Index n) {
  sweep(n, [&](Index i, auto lanes) {
    store(F32{}, out + i, load(E{}, static_cast<const typename E::Bits*>(x) + i, lanes), lanes);
  });
}

}  // namespace

const GemvTable gemv_table = {{gemv<Wide<F32>, F32>, gemv<Bf16Steps, Bf16>, gemv<Wide<F16>, F16>},
                              {gemv<Wide<F32>, F32>, gemv<Bf16Steps, F32>, gemv<Wide<F16>, F32>},
                              {nullptr, sizeof(Bf16Steps::X::Bits) == 4 ? widen<Bf16> : nullptr, widen<F16>}};

}  // namespace dujiang::ops::cpu::DUJIANG_ISA
