// Forward. Scores are kept transposed, keys down and columns across: then the softmax's maxima, sums and limits are
// plain vectors over columns, and the weights come out as the packed operand of the next product.

#include "ops/cpu/attention_simd.h"

#include "ops/cpu/attention_tile.h"

namespace dujiang::ops::cpu::DUJIANG_ISA {
namespace {

/// Units per row of transposed values.
template <class C>
constexpr Index value_ld = key_tile / C::per_unit;
static_assert(key_tile % (2 * width) == 0 && column_block % width == 0);

/// A packed tile: keys [key_tile][key_ld], then values transposed [dim][value_ld].
template <class C>
Index tile_units(Index dim) {
  return key_tile * key_ld<C>(dim) + round_up(dim * value_ld<C>, 16);
}
template <class C>
Index tile_bytes(Index dim) {
  return tile_units<C>(dim) * 4;
}

template <class C>
void pack_tile(const HeadGroup& h, Index first_key, Index keys, std::uint32_t* out) {
  using E = typename C::E;
  const auto row_of = [&](const HeadRows& rows) {
    return [&h, &rows, first_key](Index r) -> const typename E::Bits* {
      return first_key + r < h.keys ? at<E>(rows, first_key + r) : nullptr;
    };
  };
  pack_rows<C>(row_of(h.k), keys, h.dim, out, key_ld<C>(h.dim));
  pack_column_units<C>(row_of(h.v), keys, h.dim, out + key_tile * key_ld<C>(h.dim), value_ld<C>);
}

template <class C>
void pack(const HeadGroup& h, std::int64_t tile, void* packed) {
  const Index first = tile * key_tile;
  pack_tile<C>(h, first, round_up(min(key_tile, h.keys - first), 2),
               static_cast<std::uint32_t*>(packed) + tile * tile_units<C>(h.dim));
}

/// What a block of columns has come to: o transposed and unnormalised, the largest score (in powers of two) and the
/// sum of the weights.
struct Outcome {
  float* o;  // [dim][column_block]
  float* most;
  float* total;

  Outcome(Arena& arena, Index dim)
      : o(arena.take<float>(dim * column_block)),
        most(arena.take<float>(column_block)),
        total(arena.take<float>(column_block)) {}
};

std::int64_t partial_bytes(std::int64_t dim) {
  Arena arena(nullptr);
  const Outcome outcome(arena, dim);
  return arena.used();
}

template <class C>
struct Scratch {
  std::uint32_t* q;        // [units][column_block]
  float* scores;           // [key_tile][column_block]
  std::uint32_t* weights;  // [key_tile / per_unit][column_block]
  std::uint32_t* tile;
  float* rescale;
  std::int32_t* limit;
  Outcome outcome;

  Scratch(Arena& arena, Index dim)
      : q(arena.take<std::uint32_t>(key_ld<C>(dim) * column_block)),
        scores(arena.take<float>(key_tile * column_block)),
        weights(arena.take<std::uint32_t>(value_ld<C> * column_block)),
        tile(arena.take<std::uint32_t>(tile_units<C>(dim))),
        rescale(arena.take<float>(column_block)),
        limit(arena.take<std::int32_t>(column_block)),
        outcome(arena, dim) {}
};

template <class C>
std::int64_t scratch_bytes(std::int64_t dim) {
  Arena arena(nullptr);
  const Scratch<C> scratch(arena, dim);
  return arena.used();
}

/// Turns scores into weights 2^(score * scale - most), with most and total brought up to date and the factor by which
/// what was summed so far shrinks in rescale.
template <class C>
void softmax(const Scratch<C>& s, float scale, Index rows, Index vectors) {
  for (Index v = 0; v < vectors; ++v) {
    const float* scores = s.scores + v * width;
    const Floats before = load(F32{}, s.outcome.most + v * width);
    Floats even = broadcast(-infinity), odd = even;
    for (Index r = 0; r < rows; r += 2) {
      even = max(load(F32{}, scores + r * column_block), even);
      odd = max(load(F32{}, scores + (r + 1) * column_block), odd);
    }
    const Floats most = max(max(even, odd) * scale, before);
    const Floats shrink = exp2(before - most);
    Floats sum = Floats{}, odd_sum = Floats{};
    for (Index r = 0; r < rows; r += 2) {
      const Floats p = exp2(load(F32{}, scores + r * column_block) * scale - most);
      const Floats next = exp2(load(F32{}, scores + (r + 1) * column_block) * scale - most);
      sum += p;
      odd_sum += next;
      std::uint32_t* out = s.weights + r / C::per_unit * column_block + v * width;
      if constexpr (C::per_unit == 2) {
        store_words(out, C::pair(p, next));
      } else {
        store_words(out, (Words)p);
        store_words(out + column_block, (Words)next);
      }
    }
    store(F32{}, s.outcome.most + v * width, most);
    store(F32{}, s.outcome.total + v * width, load(F32{}, s.outcome.total + v * width) * shrink + sum + odd_sum);
    store(F32{}, s.rescale + v * width, shrink);
  }
}

/// Writes o and lse of the columns from `first`. Uses total.
template <class E>
void finish(const HeadGroup& h, Index first, const Outcome& outcome) {
  const Index columns = min(column_block, h.columns() - first);
  if (h.lse.data != nullptr) {
    const ColumnRows<F32> lse(h.lse, h, first);
    for (Index c = 0; c < columns; ++c) *lse(c) = outcome.most[c] * ln_2 + __builtin_logf(outcome.total[c]);
  }
  for (Index c = 0; c < columns; ++c) outcome.total[c] = 1 / outcome.total[c];
  unpack_columns<E>(outcome.o, column_block, columns, h.dim, outcome.total, ColumnRows<E>(h.o, h, first));
}

template <class C>
void block(const HeadGroup& h, std::int64_t first, std::int64_t key_begin, std::int64_t key_end, const void* packed,
           void* scratch, void* partial) {
  using E = typename C::E;
  Arena arena(scratch);
  Scratch<C> s(arena, h.dim);
  if (partial != nullptr) {
    Arena of_partial(partial);
    s.outcome = Outcome(of_partial, h.dim);
  }
  const Index columns = min(column_block, h.columns() - first);
  const Index vectors = (columns + width - 1) / width;
  const Index units = (h.dim + C::per_unit - 1) / C::per_unit;
  pack_columns<C>(ColumnRows<E>(h.q, h, first), columns, h.dim, s.q, column_block);
  limits(h, first, s.limit);
  for (Index c = 0; c < vectors * width; ++c) {
    s.outcome.most[c] = -infinity;
    s.outcome.total[c] = 0;
  }

  // Blocks are handed out from the last to the first.
  if (first >= column_block) prefetch_columns<E>(h.q, h, first - column_block);

  const Index all_see = h.visible(first), end = min(key_end, h.visible(first + columns - 1));
  for (Index key = key_begin; key < end; key += key_tile) {
    const Index rows = round_up(min(key_tile, end - key), 2);
    const std::uint32_t* tile = s.tile;
    if (packed != nullptr)
      tile = static_cast<const std::uint32_t*>(packed) + key / key_tile * tile_units<C>(h.dim);
    else
      pack_tile<C>(h, key, rows, s.tile);
    const Index ld = key_ld<C>(h.dim);
    product<C>(rows, vectors, units, tile, ld, s.q, column_block,
               Target<>{.c = s.scores, .ld = column_block, .into = Into::set});
    if (key + rows > all_see) mask(s.scores, rows, vectors, key, s.limit);
    softmax(s, h.scale * log2_e, rows, vectors);
    product<C>(h.dim, vectors, rows / C::per_unit, tile + key_tile * ld, value_ld<C>, s.weights, column_block,
               Target<>{.c = s.outcome.o,
                        .ld = column_block,
                        .into = key == key_begin ? Into::set : Into::blend,
                        .column = s.rescale});
  }
  if (partial == nullptr) finish<E>(h, first, s.outcome);
}

template <class E>
void join(const HeadGroup& h, std::int64_t first, std::int64_t parts, void* partials) {
  const auto part = [&](Index p) {
    Arena arena(static_cast<char*>(partials) + p * partial_bytes(h.dim));
    return Outcome(arena, h.dim);
  };
  const Outcome all = part(0);
  const Index vectors = (min(column_block, h.columns() - first) + width - 1) / width;
  for (Index v = 0; v < vectors * width; v += width) {
    Floats most = load(F32{}, all.most + v);
    for (Index p = 1; p < parts; ++p) most = max(load(F32{}, part(p).most + v), most);
    Floats total = Floats{};
    for (Index p = 0; p < parts; ++p) {
      const Outcome from = part(p);
      const Floats factor = exp2(load(F32{}, from.most + v) - most);
      total += load(F32{}, from.total + v) * factor;
      for (Index x = 0; x < h.dim; ++x) {
        float* o = all.o + x * column_block + v;
        const Floats other = load(F32{}, from.o + x * column_block + v);
        store(F32{}, o, p == 0 ? other * factor : load(F32{}, o) + other * factor);
      }
    }
    store(F32{}, all.most + v, most);
    store(F32{}, all.total + v, total);
  }
  finish<E>(h, first, all);
}

template <class C>
constexpr AttentionForward forward = {.tile_bytes = tile_bytes<C>,
                                      .scratch_bytes = scratch_bytes<C>,
                                      .partial_bytes = partial_bytes,
                                      .pack = pack<C>,
                                      .block = block<C>,
                                      .join = join<typename C::E>};

}  // namespace

const AttentionForwards attention_forwards = {{forward<Wide<F32>>, forward<OfBf16>, forward<Wide<F16>>}};

}  // namespace dujiang::ops::cpu::DUJIANG_ISA
