#include <algorithm>

#include "framework/autograd/functions.h"
#include "ops/elementwise.h"
#include "ops/loss.h"
#include "ops/matmul.h"

namespace dujiang::fn {
namespace {

// What a chunk of rows is computed from and into.
struct Chunk {
  Tensor x, labels, loss_weight, losses;
  Tensor dx;  // undefined where nobody wants it
};

// What all chunks share.
struct Head {
  const Tensor& weight;
  const CrossEntropyOptions& options;
  bool recording, want_dw;
};

void whole_vocabulary(Stream& stream, const Head& head, const Chunk& chunk) {
  const auto& [weight, options, recording, want_dw] = head;
  const Tensor logits = Tensor::empty({chunk.x.size(0), weight.size(0)}, chunk.x.dtype(), chunk.x.device());
  ops::matmul(stream, chunk.x, weight.transpose(0, 1), logits, false);
  ops::softmax_cross_entropy(stream, logits, chunk.labels, chunk.loss_weight, options.valid, options.grad_scale,
                             recording, chunk.losses);
  if (chunk.dx.defined()) ops::matmul(stream, logits, weight, chunk.dx, false);
  if (want_dw) {
    const auto dw = autograd::leaf_slot(weight);
    ops::matmul(stream, logits.transpose(0, 1), chunk.x, dw.tensor, dw.accumulate);
  }
}

// Every slice's statistics, combined over all ranks' slices, from which each slice has its gradient.
void sharded_vocabulary(Stream& stream, const Head& head, const Chunk& chunk) {
  const auto& [weight, options, recording, want_dw] = head;
  const VocabularyShard& shard = *options.shard;
  const int count = shard.slices ? shard.slices->local : 1;
  const std::int64_t rows = chunk.x.size(0), width = weight.size(0) / count;
  const Device device = weight.device();
  const auto for_slices = [&](const std::function<void(int)>& body) {
    if (shard.slices)
      each_slice(count, body);
    else
      body(0);
  };
  const Tensor x = packed(chunk.x);
  const Tensor logits = Tensor::empty({count, rows, width}, x.dtype(), device);
  const Tensor statistics = Tensor::empty({count, 3, rows}, Dtype::f32, device);
  const auto logits_of = [&](int i) { return logits.narrow(0, i, 1).view({rows, width}); };
  const auto weight_of = [&](int i) { return packed(slice_of(weight, 0, i, count)); };
  for_slices([&](int i) {
    ops::matmul(stream, x, weight_of(i).transpose(0, 1), logits_of(i), false);
    ops::softmax_statistics(stream, logits_of(i), chunk.labels, shard.offset + i * width, options.valid,
                            statistics.narrow(0, i, 1).view({3, rows}));
  });
  const Tensor all = shard.gather ? shard.gather(statistics) : statistics;
  const Tensor total = Tensor::empty({3, rows}, Dtype::f32, device);
  ops::combine_softmax_statistics(stream, all, chunk.labels, chunk.loss_weight, total, chunk.losses);
  if (!recording) return;

  const auto dw = want_dw ? autograd::leaf_slot(weight) : autograd::Slot{{}, false};
  Tensor partials;
  if (chunk.dx.defined() && shard.slices) partials = Tensor::empty({count, rows, x.size(1)}, Dtype::f32, device);
  for_slices([&](int i) {
    const Tensor gradient = logits_of(i);
    ops::softmax_gradient(stream, gradient, chunk.labels, chunk.loss_weight, shard.offset + i * width, options.valid,
                          options.grad_scale, total);
    if (chunk.dx.defined())
      ops::matmul(stream, gradient, weight_of(i),
                  partials.defined() ? partials.narrow(0, i, 1).view(x.shape()) : chunk.dx, false);
    if (!want_dw) return;
    if (shard.slices) {
      const Tensor part = Tensor::empty({width, x.size(1)}, Dtype::f32, device);
      ops::matmul(stream, gradient.transpose(0, 1), x, part, false);
      put(slice_of(dw.tensor, 0, i, count), part, dw.accumulate);
    } else {
      ops::matmul(stream, gradient.transpose(0, 1), x, dw.tensor, dw.accumulate);
    }
  });
  if (partials.defined()) chunk.dx.copy_from(tree_sum(partials, *shard.slices));
}

// How many rows' logits exist at a time: few, to stay near for the three sweeps over them, but not so few that adding
// to the weight's gradient for each chunk tells. With slices, that must not depend on how many of them are here.
std::int64_t rows_at_a_time(const Tensor& x, const Tensor& weight, const CrossEntropyOptions& options) {
  constexpr std::int64_t usual_slices = 8, near_bytes = 16 << 20, most_bytes = 64 << 20, enough = 1024;
  const bool sliced = options.shard && options.shard->slices;
  const std::int64_t columns = sliced ? weight.size(0) / options.shard->slices->local * usual_slices : weight.size(0);
  const std::int64_t row = columns * std::int64_t(size_of(x.dtype()));
  return std::max<std::int64_t>({1, near_bytes / row, std::min(most_bytes / row, enough)});
}

}  // namespace

Tensor linear_cross_entropy(const Tensor& x, const Tensor& weight, const Tensor& labels, const Tensor& loss_weight,
                            const CrossEntropyOptions& options) {
  const std::int64_t n = x.size(0);
  DUJIANG_CHECK(labels.count() == n && loss_weight.count() == n, "linear_cross_entropy: {} rows, labels {}, weights {}",
                n, labels.str(), loss_weight.str());
  for (const auto* input : {&x, &weight}) autograd::check_storage("linear_cross_entropy", *input);
  auto& stream = default_stream(x.device());
  const bool recording = autograd::recording({x, weight});
  const Head head{weight, options, recording, recording && weight.meta()};
  Tensor losses = Tensor::empty({n}, Dtype::f32, x.device());
  Tensor dx;
  if (recording && x.meta()) dx = Tensor::empty_like(x);

  const std::int64_t most = rows_at_a_time(x, weight, options), chunks = (n + most - 1) / most;
  for (std::int64_t c = 0; c < chunks; ++c) {
    const std::int64_t begin = n * c / chunks, rows = n * (c + 1) / chunks - begin;
    const auto part = [&](const Tensor& t) { return t.defined() ? t.narrow(0, begin, rows) : Tensor(); };
    const Chunk chunk{part(x), part(labels), part(loss_weight), part(losses), part(dx)};
    options.shard ? sharded_vocabulary(stream, head, chunk) : whole_vocabulary(stream, head, chunk);
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
