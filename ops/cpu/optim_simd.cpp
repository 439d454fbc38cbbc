// Compiled without contraction to fused multiply-adds: the arithmetic is one rounding after another on every
// instruction set, so they all give the same bits, and memory is the limit anyway.

#include "ops/cpu/optim_simd.h"

#include "ops/cpu/simd.h"

namespace dujiang::ops::cpu::DUJIANG_ISA {
namespace {

template <class E, bool write_param>
void update(const AdamwRange& a) {
  const F32 f32;
  auto* param = static_cast<typename E::Bits*>(a.param);
  sweep(a.n, [&](std::ptrdiff_t i, auto lanes) {
    const Floats g = load(f32, a.grad + i, lanes) * a.grad_scale;
    const Floats m = load(f32, a.m + i, lanes) * a.beta1 + g * a.one_less_beta1;
    const Floats v = load(f32, a.v + i, lanes) * a.beta2 + g * g * a.one_less_beta2;
    const Floats p =
        load(f32, a.master + i, lanes) * a.decay - a.step_size * m / (sqrt(v * a.inverse_correction2) + a.eps);
    store(f32, a.m + i, m, lanes);
    store(f32, a.v + i, v, lanes);
    store(f32, a.master + i, p, lanes);
    if constexpr (write_param) store(E{}, param + i, p, lanes);
  });
}

}  // namespace

const AdamwTable adamw_table = {.update = {update<F32, false>, update<Bf16, true>, update<F16, true>}};

}  // namespace dujiang::ops::cpu::DUJIANG_ISA
