#include "framework/autograd/functions.h"

namespace dujiang::fn {

Tensor view(const Tensor& x, Shape shape) {
  return autograd::record("view", {x}, x.view(shape), [from = x.shape()](autograd::Gradients& g) {
    const Tensor& dy = g.output();
    g.add(0, (dy.contiguous() ? dy : dy.clone()).view(from));
  });
}

Tensor narrow(const Tensor& x, int axis, std::int64_t start, std::int64_t length) {
  return autograd::record("narrow", {x}, x.narrow(axis, start, length),
                          [shape = x.shape(), axis, start, length](autograd::Gradients& g) {
                            Tensor dx = Tensor::zeros(shape, g.output().dtype(), g.output().device());
                            dx.narrow(axis, start, length).copy_from(g.output());
                            g.add(0, dx);
                          });
}

Tensor transpose(const Tensor& x, int axis_a, int axis_b) {
  return autograd::record("transpose", {x}, x.transpose(axis_a, axis_b), [axis_a, axis_b](autograd::Gradients& g) {
    g.add(0, g.output().transpose(axis_a, axis_b).clone());
  });
}

Tensor cast(const Tensor& x, Dtype dtype) {
  if (x.dtype() == dtype) return x;
  return autograd::record("cast", {x}, x.to(dtype),
                          [from = x.dtype()](autograd::Gradients& g) { g.add(0, g.output().to(from)); });
}

Tensor identity(const Tensor& x, std::function<void()> on_gradient) {
  return autograd::record("identity", {x}, x.detached(), [run = std::move(on_gradient)](autograd::Gradients& g) {
    run();
    g.add(0, g.output());
  });
}

}  // namespace dujiang::fn
