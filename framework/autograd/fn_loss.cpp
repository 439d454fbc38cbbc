#include <algorithm>

#include "framework/autograd/functions.h"
#include "ops/elementwise.h"
#include "ops/loss.h"
#include "ops/matmul.h"

namespace dujiang::fn {
namespace {

constexpr std::int64_t chunk_bytes = std::int64_t{64} << 20;

}  // namespace

Tensor linear_cross_entropy(const Tensor& x, const Tensor& weight, const Tensor& labels, const Tensor& loss_weight,
                            const CrossEntropyOptions& options) {
  const std::int64_t n = x.size(0), vocabulary = weight.size(0);
  DUJIANG_CHECK(labels.count() == n && loss_weight.count() == n, "linear_cross_entropy: {} rows, labels {}, weights {}",
                n, labels.str(), loss_weight.str());
  for (const auto* input : {&x, &weight}) autograd::save("linear_cross_entropy", *input);
  auto& stream = default_stream(x.device());
  const bool recording = autograd::recording({x, weight});
  const bool want_dw = recording && weight.meta();
  Tensor losses = Tensor::empty({n}, Dtype::f32, x.device());
  Tensor dx;
  if (recording && x.meta()) dx = Tensor::empty(x.shape(), x.dtype(), x.device());

  const std::int64_t most = std::max<std::int64_t>(1, chunk_bytes / (vocabulary * std::int64_t(size_of(x.dtype()))));
  const std::int64_t chunks = (n + most - 1) / most;
  for (std::int64_t c = 0; c < chunks; ++c) {
    const std::int64_t begin = n * c / chunks, rows = n * (c + 1) / chunks - begin;
    const Tensor part = x.narrow(0, begin, rows);
    const Tensor logits = Tensor::empty({rows, vocabulary}, x.dtype(), x.device());
    ops::matmul(stream, part, weight.transpose(0, 1), logits, false);
    ops::softmax_cross_entropy(stream, logits, labels.narrow(0, begin, rows), loss_weight.narrow(0, begin, rows),
                               options.valid, options.grad_scale, recording, losses.narrow(0, begin, rows));
    if (dx.defined()) ops::matmul(stream, logits, weight, dx.narrow(0, begin, rows), false);
    if (want_dw) {
      const auto dw = autograd::leaf_slot(weight);
      ops::matmul(stream, logits.transpose(0, 1), part, dw.tensor, dw.accumulate);
    }
  }
  Tensor loss = Tensor::empty({1}, Dtype::f32, x.device());
  ops::sum(stream, losses, loss);
  return autograd::record("linear_cross_entropy", {x, weight}, loss, [dx](autograd::Gradients& g) {
    DUJIANG_CHECK(g.output().item() == 1.0,
                  "linear_cross_entropy: backward with gradient {}: expected 1 (grad_scale "
                  "scales the gradients)",
                  g.output().item());
    if (dx.defined()) g.add(0, dx);
  });
}

}  // namespace dujiang::fn
