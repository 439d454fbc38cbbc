#include "ops/cpu/loss_simd.h"

#include "ops/cpu/simd_exp2.h"

namespace dujiang::ops::cpu::DUJIANG_ISA {
namespace {

constexpr float infinity = __builtin_inff();
constexpr std::int64_t span = 64 * width;  // what is read twice in a row: stays in the first cache

/// Vector i of n elements; lanes beyond are minus infinity.
template <class E>
DUJIANG_INLINE Floats logits_at(const typename E::Bits* x, std::int64_t i, std::int64_t n) {
  if (n - i >= width) return load(E{}, x + i);
  float lanes[width];
  const Floats v = load_some(E{}, x + i, n - i);
  std::memcpy(lanes, &v, sizeof v);
  for (std::int64_t lane = n - i; lane < width; ++lane) lanes[lane] = -infinity;
  return load(F32{}, lanes);
}

/// The largest of x * log2 e, rounded, and the sum of 2^(x * log2 e - largest), in one pass over memory: span by span,
/// each lane with a maximum of its own. Where `keep`, `powers` gets the powers of two, relative to their
/// lane's maximum so far, which `bases` gets for each span.
template <class E, bool keep>
DUJIANG_INLINE void total_of(const typename E::Bits* x, std::int64_t n, float& most, float& total, float* powers,
                             float* bases) {
  Floats lane_most = broadcast(-infinity), lane_total{};
  for (std::int64_t begin = 0; begin < n; begin += span) {
    const std::int64_t end = begin + span < n ? begin + span : n;
    Floats next = lane_most;
    for (std::int64_t i = begin; i < end; i += width) next = max(logits_at<E>(x, i, n) * log2_e, next);
    // A lane that has met nothing but minus infinity.
    const Floats base = next == broadcast(-infinity) ? Floats{} : next;
    Floats even{}, odd{};
    std::int64_t i = begin;
    for (; i + 2 * width <= end; i += 2 * width) {
      const Floats p = exp2(load(E{}, x + i) * log2_e - base), q = exp2(load(E{}, x + i + width) * log2_e - base);
      even += p;
      odd += q;
      if constexpr (keep) {
        store(F32{}, powers + i, p);
        store(F32{}, powers + i + width, q);
      }
    }
    for (; i < end; i += width) {
      const Floats p = exp2(logits_at<E>(x, i, n) * log2_e - base);
      even += p;
      if constexpr (keep) store(F32{}, powers + i, p);
    }
    if constexpr (keep) store(F32{}, bases + begin / span * width, base);
    lane_total = lane_total * exp2(lane_most - base) + (even + odd);
    lane_most = next;
  }
  most = max(lane_most);
  const Floats factor = exp2(lane_most - most);
  total = sum(lane_total * factor);
}

template <class E>
DUJIANG_INLINE void clear_padding(const LossRow& r) {
  auto* x = static_cast<typename E::Bits*>(r.logits);
  std::memset(x + r.valid, 0, static_cast<std::size_t>(r.count - r.valid) * sizeof *x);
}

/// Writes factor * 2^(x - most) over x, and zeros over padding. What is subnormal in bf16 may become zero.
template <class E>
DUJIANG_INLINE void write_gradient(const LossRow& r, float most, Floats factor) {
  auto* x = static_cast<typename E::Bits*>(r.logits);
  std::int64_t i = 0;
  for (; i + width <= r.valid; i += width) store_flushing(E{}, x + i, exp2(load(E{}, x + i) * log2_e - most) * factor);
  if (i < r.valid)
    store_some(E{}, x + i, exp2(load_some(E{}, x + i, r.valid - i) * log2_e - most) * factor, r.valid - i);
  clear_padding<E>(r);
}

template <class E>
float row(const LossRow& r) {
  auto* x = static_cast<typename E::Bits*>(r.logits);
  if (r.label < 0) {
    if (r.scratch != nullptr) std::memset(x, 0, static_cast<std::size_t>(r.count) * sizeof *x);
    return 0;
  }
  float most, total;
  float *const bases = r.scratch, *powers = nullptr;
  if (r.scratch != nullptr) {
    powers = r.scratch + (r.valid + span - 1) / span * width;
    total_of<E, true>(x, r.valid, most, total, powers, bases);
  } else {
    total_of<E, false>(x, r.valid, most, total, nullptr, nullptr);
  }
  const Floats at_label = load_some(E{}, x + r.label, 1) * log2_e - most;
  const float loss = __builtin_logf(total) - at_label[0] * ln_2;
  if (r.scratch == nullptr) return loss;

  const Floats factor = broadcast(r.factor / total);
  const Floats label_gradient = exp2(at_label) * factor - r.factor;
  for (std::int64_t begin = 0; begin < r.valid; begin += span) {
    const Floats share = exp2(load(F32{}, bases + begin / span * width) - most) * factor;
    const std::int64_t n = r.valid - begin < span ? r.valid - begin : span;
    sweep(n, [&](std::int64_t i, auto lanes) {
      store_flushing(E{}, x + begin + i, load(F32{}, powers + begin + i) * share, lanes);
    });
  }
  clear_padding<E>(r);
  store_some(E{}, x + r.label, label_gradient, 1);
  return loss;
}

template <class E>
LossTable::Statistics statistics(const LossRow& r) {
  const auto* x = static_cast<const typename E::Bits*>(r.logits);
  LossTable::Statistics s{-infinity, 0, 0};
  if (r.valid > 0) total_of<E, false>(x, r.valid, s.most, s.total, nullptr, nullptr);
  if (r.label >= 0 && r.label < r.valid) s.at_label = (load_some(E{}, x + r.label, 1) * log2_e)[0];
  return s;
}

template <class E>
void gradient(const LossRow& r, const LossTable::Statistics& all) {
  auto* x = static_cast<typename E::Bits*>(r.logits);
  const Floats factor = broadcast(r.factor / all.total);
  write_gradient<E>(r, all.most, factor);
  if (r.label < 0 || r.label >= r.valid) return;
  store_some(E{}, x + r.label, exp2(broadcast(all.at_label - all.most)) * factor - r.factor, 1);
}

}  // namespace

const LossTable loss_table = {.row = {row<F32>, row<Bf16>, row<F16>},
                              .statistics = {statistics<F32>, statistics<Bf16>, statistics<F16>},
                              .gradient = {gradient<F32>, gradient<Bf16>, gradient<F16>}};

}  // namespace dujiang::ops::cpu::DUJIANG_ISA
