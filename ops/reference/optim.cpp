#include "ops/reference/optim.h"

#include <bit>
#include <cmath>

#include "ops/reference/access.h"

namespace dujiang::ops::reference {
namespace {

std::uint16_t* halves(const View& view) {
  return static_cast<std::uint16_t*>(view.data);
}

}  // namespace

void adamw(Stream&, const View& master, const View& m, const View& v, const View& grad, const View& param,
           const AdamwStep& step) {
  const double lr = step.lr, beta1 = step.beta1, beta2 = step.beta2;
  for (std::int64_t i = 0; i < master.shape[0]; ++i) {
    const double g = get(grad, {i}) * step.grad_scale;
    double p = get(master, {i}) * (1 - lr * step.weight_decay);
    const double first = beta1 * get(m, {i}) + (1 - beta1) * g;
    const double second = beta2 * get(v, {i}) + (1 - beta2) * g * g;
    p -= lr / step.bias_correction1 * first / (std::sqrt(second / step.bias_correction2) + step.eps);
    set(m, {i}, first);
    set(v, {i}, second);
    set(master, {i}, p);
    if (param.defined()) set(param, {i}, p);
  }
}

void split_f32(Stream&, const View& x, const View& high, const View& low) {
  for (std::int64_t i = 0; i < x.count(); ++i) {
    auto bits = std::bit_cast<std::uint32_t>(x.as<float>()[i]);
    if (std::isnan(x.as<float>()[i])) bits = (bits & 0xffff0000u) | 0x400000u;
    const std::uint32_t away = (bits & 0xffffu) >= 0x8000u ? 1 : 0;
    halves(low)[i] = static_cast<std::uint16_t>(bits & 0xffffu);
    halves(high)[i] = static_cast<std::uint16_t>((bits >> 16) + away);
  }
}

void join_f32(Stream&, const View& high, const View& low, const View& x) {
  for (std::int64_t i = 0; i < x.count(); ++i) {
    const std::uint32_t away = halves(low)[i] >= 0x8000u ? 1 : 0;
    x.as<float>()[i] = std::bit_cast<float>(((halves(high)[i] - away) << 16) | halves(low)[i]);
  }
}

}  // namespace dujiang::ops::reference
