// Compiled without contraction to fused multiply-adds: the arithmetic is one rounding after another on every
// instruction set, so they all give the same bits, and memory is the limit anyway.

#include "ops/cpu/optim_simd.h"

#include "ops/cpu/simd.h"

namespace dujiang::ops::cpu::DUJIANG_ISA {
namespace {

// The upper half of a float's bits, as they are.
struct Upper {
  using Bits = std::uint16_t;
};
DUJIANG_INLINE Floats load(Upper, const std::uint16_t* p) {
  return load(Bf16{}, p);
}
DUJIANG_INLINE void store(Upper, std::uint16_t* p, Floats v) {
  const Halves h = narrow((Words)v >> 16);
  std::memcpy(p, &h, sizeof h);
}

// Where weights are. All of them in f32:
struct Whole {
  float* p;
  template <class Lanes>
  Floats get(std::ptrdiff_t i, Lanes lanes) const {
    return load(F32{}, p + i, lanes);
  }
  template <class Lanes>
  void put(std::ptrdiff_t i, Floats v, Lanes lanes) const {
    store(F32{}, p + i, v, lanes);
  }
};
// So too, with a copy in f16:
struct Copied : Whole {
  std::uint16_t* copy;
  template <class Lanes>
  void put(std::ptrdiff_t i, Floats v, Lanes lanes) const {
    Whole::put(i, v, lanes);
    store(F16{}, copy + i, v, lanes);
  }
};
// In halves. The upper one was rounded up where the lower one, as a signed number, is below zero.
struct Split {
  std::uint16_t *high, *low;
  template <class Lanes>
  Floats get(std::ptrdiff_t i, Lanes lanes) const {
    return (Floats)((Ints)load(Upper{}, high + i, lanes) + ((Ints)load(Upper{}, low + i, lanes) >> 16));
  }
  template <class Lanes>
  void put(std::ptrdiff_t i, Floats v, Lanes lanes) const {
    const Words u = (Words)v, quiet = (u | 0x400000u) & 0xffff0000u;
    const Words bits = v != v ? quiet : u;
    store(Upper{}, high + i, (Floats)(bits + 0x8000u), lanes);
    store(Upper{}, low + i, (Floats)(bits << 16), lanes);
  }
};

// Moments are in F32 or in this: Bf16 with its bits, by the instruction that flushes subnormals where there are none.
struct Bf16Moment : Bf16 {};
DUJIANG_INLINE void store(Bf16Moment, std::uint16_t* p, Floats v) {
#if defined(__AVX512BF16__)
  constexpr int subnormal = 0x20;
  if (__builtin_expect(_mm512_fpclass_ps_mask((__m512)v, subnormal) == 0, 1)) {
    store_flushing(Bf16{}, p, v);
    return;
  }
#endif
  store(Bf16{}, p, v);
}

template <class Moment, class Weights>
DUJIANG_INLINE void update(const AdamwRange& a, Weights weights) {
  const F32 f32;
  const Moment moment;
  auto* const first = static_cast<typename Moment::Bits*>(a.m);
  auto* const second = static_cast<typename Moment::Bits*>(a.v);
  sweep(a.n, [&](std::ptrdiff_t i, auto lanes) {
    const Floats g = load(f32, a.grad + i, lanes) * a.grad_scale;
    const Floats m = load(moment, first + i, lanes) * a.beta1 + g * a.one_less_beta1;
    const Floats v = load(moment, second + i, lanes) * a.beta2 + g * g * a.one_less_beta2;
    const Floats p = weights.get(i, lanes) * a.decay - a.step_size * m / (sqrt(v * a.inverse_correction2) + a.eps);
    store(moment, first + i, m, lanes);
    store(moment, second + i, v, lanes);
    weights.put(i, p, lanes);
  });
}

template <class Moment>
void adamw(const AdamwRange& a) {
  update<Moment>(a, Whole{static_cast<float*>(a.master)});
}
template <class Moment>
void adamw_split(const AdamwRange& a) {
  update<Moment>(a, Split{static_cast<std::uint16_t*>(a.param), static_cast<std::uint16_t*>(a.master)});
}
template <class Moment>
void adamw_copied(const AdamwRange& a) {
  update<Moment>(a, Copied{{static_cast<float*>(a.master)}, static_cast<std::uint16_t*>(a.param)});
}

void split_f32(const float* x, std::uint16_t* high, std::uint16_t* low, std::ptrdiff_t n) {
  sweep(n, [&](std::ptrdiff_t i, auto lanes) { Split{high, low}.put(i, load(F32{}, x + i, lanes), lanes); });
}

void join_f32(const std::uint16_t* high, const std::uint16_t* low, float* x, std::ptrdiff_t n) {
  const Split halves{const_cast<std::uint16_t*>(high), const_cast<std::uint16_t*>(low)};
  sweep(n, [&](std::ptrdiff_t i, auto lanes) { store(F32{}, x + i, halves.get(i, lanes), lanes); });
}

}  // namespace

const OptimTable optim_table = {.adamw = {adamw<F32>, adamw<Bf16Moment>},
                                .adamw_copied = {adamw_copied<F32>, adamw_copied<Bf16Moment>},
                                .adamw_split = {adamw_split<F32>, adamw_split<Bf16Moment>},
                                .split_f32 = split_f32,
                                .join_f32 = join_f32};

}  // namespace dujiang::ops::cpu::DUJIANG_ISA
