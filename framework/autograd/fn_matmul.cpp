#include "framework/autograd/functions.h"
#include "ops/matmul.h"

namespace dujiang::fn {

Tensor linear(const Tensor& x, const Tensor& weight) {
  DUJIANG_CHECK(x.shape().rank() == 2 && weight.shape().rank() == 2 && x.size(1) == weight.size(1),
                "linear: x {} and weight {}: expected [n, k] and [m, k]", x.str(), weight.str());
  const auto saved_x = autograd::save("linear", x), saved_w = autograd::save("linear", weight);
  auto& stream = default_stream(x.device());
  Tensor y = Tensor::empty({x.size(0), weight.size(0)}, x.dtype(), x.device());
  ops::matmul(stream, x, weight.transpose(0, 1), y, false);
  return autograd::record("linear", {x, weight}, y, [saved_x, saved_w](autograd::Gradients& g) {
    const Tensor& dy = g.output();
    auto& stream = default_stream(dy.device());
    if (g.needs(0)) {
      const auto dx = g.slot(0);
      ops::matmul(stream, dy, saved_w.get(), dx.tensor, dx.accumulate);
    }
    if (g.needs(1)) {
      const auto dw = g.slot(1);
      ops::matmul(stream, dy.transpose(0, 1), saved_x.get(), dw.tensor, dw.accumulate);
    }
  });
}

Tensor matmul(const Tensor& a, const Tensor& b) {
  const int rank = a.shape().rank();
  DUJIANG_CHECK(rank >= 2 && b.shape().rank() == rank, "matmul: {} and {}: expected equal ranks of at least 2", a.str(),
                b.str());
  const auto saved_a = autograd::save("matmul", a), saved_b = autograd::save("matmul", b);
  auto& stream = default_stream(a.device());
  Shape shape = a.shape();
  shape[-1] = b.size(-1);
  Tensor y = Tensor::empty(shape, a.dtype(), a.device());
  ops::matmul(stream, a, b, y, false);
  return autograd::record("matmul", {a, b}, y, [saved_a, saved_b](autograd::Gradients& g) {
    const Tensor& dy = g.output();
    auto& stream = default_stream(dy.device());
    if (g.needs(0)) {
      const auto da = g.slot(0);
      ops::matmul(stream, dy, saved_b.get().transpose(-2, -1), da.tensor, da.accumulate);
    }
    if (g.needs(1)) {
      const auto db = g.slot(1);
      ops::matmul(stream, saved_a.get().transpose(-2, -1), dy, db.tensor, db.accumulate);
    }
  });
}

}  // namespace dujiang::fn
