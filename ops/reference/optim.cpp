#include "ops/reference/optim.h"

#include <cmath>

#include "ops/reference/access.h"

namespace dujiang::ops::reference {

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

}  // namespace dujiang::ops::reference
