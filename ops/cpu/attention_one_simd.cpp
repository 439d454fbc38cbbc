// The softmax of a row of scores per head, and the sum of the values that it weighs: each value is read once, as it
// lies, for all heads that share it.

#include "ops/cpu/attention_one_simd.h"

#include "ops/cpu/simd_exp2.h"

namespace dujiang::ops::cpu::DUJIANG_ISA {
namespace {

using Index = std::int64_t;

/// Turns scores into 2^(score - largest); the total.
DUJIANG_INLINE float softmax(float* scores, Index keys, Index stride, float scale, float* lse) {
  for (Index i = keys; i < stride; ++i) scores[i] = -__builtin_inff();
  Floats most = broadcast(-__builtin_inff());
  for (Index i = 0; i < stride; i += width) {
    const Floats s = load(F32{}, scores + i) * (scale * log2_e);
    most = max(s, most);
    store(F32{}, scores + i, s);
  }
  const float largest = max(most);
  Floats sums = Floats{};
  for (Index i = 0; i < stride; i += width) {
    const Floats p = exp2(load(F32{}, scores + i) - largest);
    sums += p;
    store(F32{}, scores + i, p);
  }
  const float total = sum(sums);
  if (lse != nullptr) *lse = largest * ln_2 + __builtin_logf(total);
  return total;
}

/// V vectors of o, from element x, for M heads from `first`. The lanes: of the last vector.
template <class E, int M, int V, class Lanes>
DUJIANG_INLINE void weigh(const HeadGroup& h, const float* weights, Index stride, const float* totals, Index first,
                          Index x, Lanes lanes) {
  const auto* v = static_cast<const typename E::Bits*>(h.v.data) + x;
  weights += first * stride;
  Floats sums[M][V] = {};
  for (Index key = 0; key < h.keys; ++key, v += h.v.row_stride) {
    Floats value[V];
#pragma GCC unroll 4
    for (int i = 0; i < V; ++i) value[i] = load(E{}, v + i * width, lanes);
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) {
      const Floats weight = broadcast(weights[m * stride + key]);
#pragma GCC unroll 4
      for (int i = 0; i < V; ++i) sums[m][i] += weight * value[i];
    }
  }
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) {
    auto* o = static_cast<typename E::Bits*>(h.o.data) + (first + m) * h.o.head_stride + x;
#pragma GCC unroll 4
    for (int i = 0; i < V; ++i) store(E{}, o + i * width, sums[m][i] / totals[m], lanes);
  }
}

template <class E, int M>
void heads(const HeadGroup& h, const float* weights, Index stride, const float* totals, Index first) {
  constexpr int wide = width == 16 ? 4 : 2;
  Index x = 0;
  for (; x + wide * width <= h.dim; x += wide * width) weigh<E, M, wide>(h, weights, stride, totals, first, x, All{});
  for (; x + width <= h.dim; x += width) weigh<E, M, 1>(h, weights, stride, totals, first, x, All{});
  if (x < h.dim) weigh<E, M, 1>(h, weights, stride, totals, first, x, Some{h.dim - x});
}

template <class E>
void one_query(const HeadGroup& h, float* scores, Index stride) {
  for (Index first = 0; first < h.group; first += 4) {
    const Index count = h.group - first < 4 ? h.group - first : 4;
    float totals[4];
    for (Index m = 0; m < count; ++m) {
      float* lse = static_cast<float*>(h.lse.data);
      if (lse != nullptr) lse += (first + m) * h.lse.head_stride;
      totals[m] = softmax(scores + (first + m) * stride, h.keys, stride, h.scale, lse);
    }
    if (count == 4) heads<E, 4>(h, scores, stride, totals, first);
    if (count == 3) heads<E, 3>(h, scores, stride, totals, first);
    if (count == 2) heads<E, 2>(h, scores, stride, totals, first);
    if (count == 1) heads<E, 1>(h, scores, stride, totals, first);
  }
}

}  // namespace

const OneQueryTable one_query_table = {{one_query<F32>, one_query<Bf16>, one_query<F16>}};

}  // namespace dujiang::ops::cpu::DUJIANG_ISA
