#include "framework/autograd/functions.h"
#include "ops/elementwise.h"

namespace dujiang::fn {
Tensor add(const Tensor& a, const Tensor& b) {
  Tensor y = Tensor::empty_like(a);
  ops::add(default_stream(a.device()), a, b, y);
  return autograd::record("add", {a, b}, y, [](autograd::Gradients& g) {
    g.add(0, g.output());
    g.add(1, g.output());
  });
}

Tensor multiply(const Tensor& a, const Tensor& b) {
  const autograd::Saved factors[2] = {autograd::save("multiply", b), autograd::save("multiply", a)};
  Tensor y = Tensor::empty_like(a);
  ops::multiply(default_stream(a.device()), a, b, y);
  return autograd::record("multiply", {a, b}, y, [factors](autograd::Gradients& g) {
    auto& stream = default_stream(g.output().device());
    for (int i = 0; i < 2; ++i) {
      if (!g.needs(i)) continue;
      const Tensor factor = factors[i].get();
      Tensor d = Tensor::empty_like(factor);
      ops::multiply(stream, g.output(), factor, d);
      g.add(i, d);
    }
  });
}

Tensor scale(const Tensor& x, float factor) {
  Tensor y = Tensor::empty_like(x);
  ops::scale(default_stream(x.device()), x, factor, y);
  return autograd::record("scale", {x}, y, [factor](autograd::Gradients& g) {
    Tensor dx = Tensor::empty_like(g.output());
    ops::scale(default_stream(dx.device()), g.output(), factor, dx);
    g.add(0, dx);
  });
}

Tensor swiglu(const Tensor& gate, const Tensor& up) {
  const auto saved_gate = autograd::save("swiglu", gate), saved_up = autograd::save("swiglu", up);
  Tensor y = Tensor::empty_like(gate);
  ops::swiglu(default_stream(gate.device()), gate, up, y);
  y = autograd::record("swiglu", {gate, up}, y, [saved_gate, saved_up](autograd::Gradients& g) {
    const Tensor gate = saved_gate.get(), up = saved_up.get();
    Tensor dgate = Tensor::empty_like(gate), dup = Tensor::empty_like(up);
    ops::swiglu_backward(default_stream(gate.device()), g.output(), gate, up, dgate, dup);
    g.add(0, dgate);
    g.add(1, dup);
  });
  // The inputs are kept in any case, and computing y again is one sweep.
  const auto again_gate = autograd::save("swiglu", gate), again_up = autograd::save("swiglu", up);
  autograd::rebuildable(y, [again_gate, again_up] {
    const Tensor gate = again_gate.get(), up = again_up.get();
    Tensor y = Tensor::empty_like(gate);
    ops::swiglu(default_stream(gate.device()), gate, up, y);
    return y;
  });
  return y;
}

Tensor sum(const Tensor& x) {
  Tensor y = Tensor::empty({1}, Dtype::f32, x.device());
  ops::sum(default_stream(x.device()), x, y);
  return autograd::record("sum", {x}, y, [shape = x.shape(), dtype = x.dtype()](autograd::Gradients& g) {
    Tensor dx = Tensor::empty(shape, dtype, g.output().device());
    dx.fill(static_cast<float>(g.output().item()));
    g.add(0, dx);
  });
}

}  // namespace dujiang::fn
