#include "framework/autograd/functions.h"
#include "ops/norm.h"

namespace dujiang::fn {
namespace {

// Where a norm's backward writes its weight's gradient: a leaf's gradient itself, else a temporary f32 (also where no
// gradient is wanted: the kernel writes one in any case).
class WeightGradient {
 public:
  WeightGradient(autograd::Gradients& g, int input, const Tensor& weight) : g_(g), input_(input) {
    if (!weight.defined()) return;
    direct_ = g.needs_leaf(input);
    slot_ = direct_ ? g.slot(input) : autograd::Slot{Tensor::empty(weight.shape(), Dtype::f32, weight.device()), false};
    dtype_ = weight.dtype();
  }
  const Tensor& tensor() const { return slot_.tensor; }
  bool accumulate() const { return slot_.accumulate; }
  void finish() {
    if (!direct_ && slot_.tensor.defined() && g_.needs(input_)) g_.add(input_, slot_.tensor.to(dtype_));
  }

 private:
  autograd::Gradients& g_;
  int input_;
  autograd::Slot slot_{{}, false};
  bool direct_ = false;
  Dtype dtype_ = Dtype::f32;
};

// Whoever saves `y` keeps x, which the norm's own gradient keeps in any case.
void rebuild_norm(const Tensor& y, const Tensor& x, const Tensor& weight, float eps) {
  if (!y.meta()) return;
  const auto saved_x = autograd::save("rms_norm", x), saved_w = autograd::save("rms_norm", weight);
  autograd::rebuildable(y, [saved_x, saved_w, eps] {
    const Tensor x = saved_x.get();
    Tensor y = Tensor::empty_like(x), rstd = Tensor::empty({x.size(0)}, Dtype::f32, x.device());
    ops::rms_norm(default_stream(x.device()), x, saved_w.get(), eps, y, rstd);
    return y;
  });
}

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& weight, float eps) {
  const auto saved_x = autograd::save("rms_norm", x), saved_w = autograd::save("rms_norm", weight);
  Tensor y = Tensor::empty_like(x), rstd = Tensor::empty({x.size(0)}, Dtype::f32, x.device());
  ops::rms_norm(default_stream(x.device()), x, weight, eps, y, rstd);
  y = autograd::record("rms_norm", {x, weight}, y, [saved_x, saved_w, rstd](autograd::Gradients& g) {
    const Tensor x = saved_x.get(), w = saved_w.get();
    Tensor dx = Tensor::empty_like(x);
    WeightGradient dw(g, 1, w);
    ops::rms_norm_backward(default_stream(x.device()), g.output(), x, w, rstd, View{}, dx, dw.tensor(),
                           dw.accumulate());
    dw.finish();
    g.add(0, dx);
  });
  rebuild_norm(y, x, weight, eps);
  return y;
}

NormedSum add_rms_norm(const Tensor& x, const Tensor& residual, const Tensor& weight, float eps) {
  for (const auto* input : {&x, &residual}) autograd::check_storage("add_rms_norm", *input);
  const auto saved_w = autograd::save("add_rms_norm", weight);
  Tensor rstd = Tensor::empty({x.size(0)}, Dtype::f32, x.device());
  Tensor outputs[2] = {Tensor::empty_like(x), Tensor::empty_like(x)};
  ops::add_rms_norm(default_stream(x.device()), x, residual, weight, eps, outputs[0], outputs[1], rstd);
  const Tensor inputs[3] = {x, residual, weight};
  autograd::record("add_rms_norm", inputs, outputs,
                   [sum = outputs[0].detached(), saved_w, rstd](autograd::Gradients& g) {
                     // The gradient of the sum goes on unchanged, plus what comes back through the norm.
                     Tensor dsum = g.output(0);
                     if (g.output(1).defined()) {
                       const Tensor w = saved_w.get();
                       dsum = Tensor::empty_like(sum);
                       WeightGradient dw(g, 2, w);
                       ops::rms_norm_backward(default_stream(sum.device()), g.output(1), sum, w, rstd, g.output(0),
                                              dsum, dw.tensor(), dw.accumulate());
                       dw.finish();
                     }
                     g.add(0, dsum);
                     g.add(1, dsum);
                   });
  rebuild_norm(outputs[1], outputs[0], weight, eps);
  return {outputs[0], outputs[1]};
}

Tensor norm_rope(const Tensor& x, const Tensor& weight, float eps, const Tensor& table, const Tensor& positions) {
  const auto saved_x = autograd::save("norm_rope", x), saved_w = autograd::save("norm_rope", weight);
  Tensor y = Tensor::empty_like(x), rstd;
  if (weight.defined()) rstd = Tensor::empty({x.size(0), x.size(1)}, Dtype::f32, x.device());
  ops::norm_rope(default_stream(x.device()), x, weight, eps, table, positions, y, rstd);
  y = autograd::record("norm_rope", {x, weight}, y, [saved_x, saved_w, rstd, table, positions](autograd::Gradients& g) {
    const Tensor x = saved_x.get(), w = saved_w.get();
    Tensor dx = Tensor::empty_like(x);
    WeightGradient dw(g, 1, w);
    ops::norm_rope_backward(default_stream(x.device()), g.output(), x, w, rstd, table, positions, dx, dw.tensor(),
                            dw.accumulate());
    dw.finish();
    g.add(0, dx);
  });
  if (!y.meta()) return y;
  const auto again_x = autograd::save("norm_rope", x), again_w = autograd::save("norm_rope", weight);
  autograd::rebuildable(y, [again_x, again_w, rstd, eps, table, positions] {
    const Tensor x = again_x.get();
    Tensor y = Tensor::empty_like(x);
    ops::norm_rope(default_stream(x.device()), x, again_w.get(), eps, table, positions, y, rstd);
    return y;
  });
  return y;
}

}  // namespace dujiang::fn
