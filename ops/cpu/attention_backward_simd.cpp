// Backward. With scores transposed as in the forward (keys down, columns across), per tile of keys and block of
// columns:  p = 2^(k.q - lse),  ds = p * (v.do - sum(o * do)),  dv += p.do,  dk += ds.q,  dq += k^T.ds.

#include "ops/cpu/attention_simd.h"
#include "ops/cpu/attention_tile.h"

namespace dujiang::ops::cpu::DUJIANG_ISA {
namespace {

/// Elements per row of what is summed over columns, padded to whole vectors.
Index padded(Index dim) {
  return round_up(dim, width);
}

template <class C>
constexpr Index transposed_ld = key_tile / C::per_unit;
template <class C>
constexpr Index weight_ld = column_block / C::per_unit;

template <class C>
struct Scratch {
  std::uint32_t *k, *v;             // [keys][key_ld]
  std::uint32_t* k_transposed;      // per tile [dim][transposed_ld]
  std::uint32_t *q, *d_o;           // [units][column_block]
  std::uint32_t *q_rows, *do_rows;  // [column_block / per_unit][padded]
  float *scores, *dp;               // [key_tile][column_block]
  std::uint32_t *p, *ds;            // [key_tile][weight_ld]
  std::uint32_t* ds_columns;        // [key_tile / per_unit][column_block]
  float* dq;                        // [dim][column_block]
  float *lse, *delta, *factor;
  std::int32_t* limit;

  Scratch(Arena& a, Index dim, Index keys) {
    const Index tiles = (keys + key_tile - 1) / key_tile;
    k = a.take<std::uint32_t>(tiles * key_tile * key_ld<C>(dim));
    v = a.take<std::uint32_t>(tiles * key_tile * key_ld<C>(dim));
    k_transposed = a.take<std::uint32_t>(tiles * dim * transposed_ld<C>);
    q = a.take<std::uint32_t>(key_ld<C>(dim) * column_block);
    d_o = a.take<std::uint32_t>(key_ld<C>(dim) * column_block);
    q_rows = a.take<std::uint32_t>(weight_ld<C> * padded(dim));
    do_rows = a.take<std::uint32_t>(weight_ld<C> * padded(dim));
    scores = a.take<float>(key_tile * column_block);
    dp = a.take<float>(key_tile * column_block);
    p = a.take<std::uint32_t>(key_tile * weight_ld<C>);
    ds = a.take<std::uint32_t>(key_tile * weight_ld<C>);
    ds_columns = C::per_unit == 1 ? ds : a.take<std::uint32_t>(key_tile / C::per_unit * column_block);
    dq = a.take<float>(dim * column_block);
    lse = a.take<float>(column_block);
    delta = a.take<float>(column_block);
    factor = a.take<float>(column_block);
    limit = a.take<std::int32_t>(column_block);
  }
};

template <class C>
std::int64_t scratch_bytes(std::int64_t dim, std::int64_t keys) {
  Arena arena(nullptr);
  const Scratch<C> scratch(arena, dim, keys);
  return arena.used();
}

/// dk and dv in f32, [keys][padded] each.
struct Sums {
  float *dk, *dv;
  Sums(Arena& arena, Index dim, Index keys) {
    const Index rows = round_up(keys, 2);
    dk = arena.take<float>(rows * padded(dim));
    dv = arena.take<float>(rows * padded(dim));
  }
};

std::int64_t sums_bytes(std::int64_t dim, std::int64_t keys) {
  Arena arena(nullptr);
  const Sums sums(arena, dim, keys);
  return arena.used();
}

template <class E>
float dot(const typename E::Bits* a, const typename E::Bits* b, Index n) {
  Floats total{};
  Index i = 0;
  for (; i + width <= n; i += width) total += load(E{}, a + i) * load(E{}, b + i);
  if (i < n) total += load_some(E{}, a + i, n - i) * load_some(E{}, b + i, n - i);
  return sum(total);
}

/// scores (times scale, powers of two) and dp to p and ds, in the layouts that the products take.
template <class C>
void differentiate(const Scratch<C>& s, float scale, Index rows, Index vectors) {
  const auto one = [&](Index r, Index v, Floats & p, Floats & ds) __attribute__((always_inline)) {
    p = exp2(load(F32{}, s.scores + r * column_block + v * width) * scale - load(F32{}, s.lse + v * width));
    ds = p * (load(F32{}, s.dp + r * column_block + v * width) - load(F32{}, s.delta + v * width));
  };
  if constexpr (C::per_unit == 1) {
    for (Index r = 0; r < rows; ++r) {
      for (Index v = 0; v < vectors; ++v) {
        Floats p, ds;
        one(r, v, p, ds);
        store_words(s.p + r * weight_ld<C> + v * width, (Words)p);
        store_words(s.ds + r * weight_ld<C> + v * width, (Words)ds);
      }
    }
  } else {
    for (Index r = 0; r < rows; r += 2) {
      for (Index v = 0; v < vectors; v += 2) {  // the lanes of an odd last vector are zero columns
        Floats p[2][2], ds[2][2];
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) one(r + i / 2, v + i % 2, p[i / 2][i % 2], ds[i / 2][i % 2]);
#pragma GCC unroll 2
        for (int i = 0; i < 2; ++i) {
          store_words(s.p + (r + i) * weight_ld<C> + v / 2 * width, C::join(p[i][0], p[i][1]));
          store_words(s.ds + (r + i) * weight_ld<C> + v / 2 * width, C::join(ds[i][0], ds[i][1]));
          store_words(s.ds_columns + r / 2 * column_block + (v + i) * width, C::pair(ds[0][i], ds[1][i]));
        }
      }
    }
  }
}

template <class C>
void one_block(const HeadGroup& h, Index first, const Scratch<C>& s, const Sums& sums) {
  using E = typename C::E;
  const Index columns = min(column_block, h.columns() - first);
  // An even number of vectors where columns are summed over in pairs.
  const Index vectors = round_up((columns + width - 1) / width, C::per_unit);
  const Index units = (h.dim + C::per_unit - 1) / C::per_unit, wide = padded(h.dim);
  const ColumnRows<E> q(h.q, h, first), d_o(h.d_o, h, first), o(h.o, h, first);
  const ColumnRows<F32> lse(h.lse, h, first);
  pack_columns<C>(q, vectors * width, h.dim, s.q, column_block);
  pack_columns<C>(d_o, vectors * width, h.dim, s.d_o, column_block);
  pack_row_units<C>(q, vectors * width, h.dim, s.q_rows, wide);
  pack_row_units<C>(d_o, vectors * width, h.dim, s.do_rows, wide);
  limits(h, first, s.limit);
  for (Index c = 0; c < vectors * width; ++c) {
    const bool real = c < columns;
    s.lse[c] = real ? *lse(c) * log2_e : infinity;  // which makes p zero
    s.delta[c] = real ? dot<E>(o(c), d_o(c), h.dim) : 0;
    s.factor[c] = h.scale;
  }

  if (first + column_block < h.columns())
    for (const HeadRows* rows : {&h.q, &h.d_o, &h.o}) prefetch_columns<E>(*rows, h, first + column_block);

  const Index all_see = h.visible(first), end = h.visible(first + columns - 1), ld = key_ld<C>(h.dim);
  for (Index key = 0; key < end; key += key_tile) {
    const Index rows = round_up(min(key_tile, end - key), 2);
    product<C>(rows, vectors, units, s.k + key * ld, ld, s.q, column_block,
               Target<>{.c = s.scores, .ld = column_block, .into = Into::set});
    product<C>(rows, vectors, units, s.v + key * ld, ld, s.d_o, column_block,
               Target<>{.c = s.dp, .ld = column_block, .into = Into::set});
    if (key + rows > all_see) mask(s.scores, rows, vectors, key, s.limit);
    differentiate(s, h.scale * log2_e, rows, vectors);
    const Index summed = vectors * width / C::per_unit;
    product<C>(rows, wide / width, summed, s.p, weight_ld<C>, s.do_rows, wide,
               Target<>{.c = sums.dv + key * wide, .ld = wide, .into = Into::add});
    product<C>(rows, wide / width, summed, s.ds, weight_ld<C>, s.q_rows, wide,
               Target<>{.c = sums.dk + key * wide, .ld = wide, .into = Into::add});
    product<C>(h.dim, vectors, rows / C::per_unit, s.k_transposed + key / key_tile * h.dim * transposed_ld<C>,
               transposed_ld<C>, s.ds_columns, column_block,
               Target<>{.c = s.dq, .ld = column_block, .into = key == 0 ? Into::set : Into::add});
  }
  unpack_columns<E>(s.dq, column_block, columns, h.dim, s.factor, ColumnRows<E>(h.dq, h, first));
}

template <class C>
void blocks(const HeadGroup& h, std::int64_t block_begin, std::int64_t block_end, void* scratch, void* out,
            const HeadGroup* next) {
  using E = typename C::E;
  Arena arena(scratch), of_sums(out);
  const Scratch<C> s(arena, h.dim, h.keys);
  const Sums sums(of_sums, h.dim, h.keys);
  const Index seen = round_up(h.visible(min(block_end * column_block, h.columns()) - 1), 2);
  for (float* part : {sums.dk, sums.dv})
    std::memset(part, 0, static_cast<std::size_t>(seen * padded(h.dim)) * sizeof(float));
  for (Index key = 0; key < seen; key += key_tile) {
    const auto rows_of = [&](const HeadRows& rows) {
      return [&h, &rows, key](Index r) -> const typename E::Bits* {
        return key + r < h.keys ? at<E>(rows, key + r) : nullptr;
      };
    };
    const Index rows = min(key_tile, seen - key), ld = key_ld<C>(h.dim);
    pack_rows<C>(rows_of(h.k), rows, h.dim, s.k + key * ld, ld);
    pack_rows<C>(rows_of(h.v), rows, h.dim, s.v + key * ld, ld);
    pack_column_units<C>(rows_of(h.k), rows, h.dim, s.k_transposed + key / key_tile * h.dim * transposed_ld<C>,
                         transposed_ld<C>);
  }
  const Index count = block_end - block_begin;
  for (Index b = 0; b < count; ++b) {
    one_block<C>(h, (block_begin + b) * column_block, s, sums);
    if (next == nullptr) continue;
    for (const HeadRows* rows : {&next->k, &next->v})
      for (Index r = next->keys * b / count; r < next->keys * (b + 1) / count; ++r)
        prefetch_row<E>(at<E>(*rows, r), h.dim);
    if (b + 1 == count)
      for (const HeadRows* rows : {&next->q, &next->d_o, &next->o}) prefetch_columns<E>(*rows, *next, 0);
  }
}

template <class E>
void finish(const HeadGroup& h, std::int64_t begin, std::int64_t end, std::int64_t parts, const void* all,
            const std::int64_t* seen) {
  const Index wide = padded(h.dim);
  const auto write = [&](Index row, const HeadRows& rows, float* Sums::*which, float factor) {
    for (Index x = 0; x < h.dim; x += width) {
      Floats total{};
      for (Index p = 0; p < parts; ++p) {
        if (row >= seen[p]) continue;
        Arena arena(const_cast<char*>(static_cast<const char*>(all)) + p * sums_bytes(h.dim, h.keys));
        total += load(F32{}, Sums(arena, h.dim, h.keys).*which + row * wide + x);
      }
      total *= broadcast(factor);
      auto* to = at<E>(rows, row) + x;
      if (h.dim - x >= width)
        store(E{}, to, total);
      else
        store_some(E{}, to, total, h.dim - x);
    }
  };
  for (Index row = begin; row < end; ++row) {
    write(row, h.dk, &Sums::dk, h.scale);
    write(row, h.dv, &Sums::dv, 1);
  }
}

template <class C>
constexpr AttentionBackward backward = {.scratch_bytes = scratch_bytes<C>,
                                        .sums_bytes = sums_bytes,
                                        .blocks = blocks<C>,
                                        .finish = finish<typename C::E>,
                                        .finish_f32 = finish<F32>};

}  // namespace

const AttentionBackwards attention_backwards = {{backward<Wide<F32>>, backward<OfBf16>, backward<Wide<F16>>}};

}  // namespace dujiang::ops::cpu::DUJIANG_ISA
