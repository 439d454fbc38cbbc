#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <numeric>

#include "framework/base/op_profile.h"
#include "framework/base/philox.h"
#include "framework/tensor/tensor.h"
#include "framework/train/bench_train.h"
#include "launch/bench.h"
#include "ops/attention.h"
#include "ops/cpu/isa.h"
#include "ops/elementwise.h"
#include "ops/embedding.h"
#include "ops/loss.h"
#include "ops/norm.h"
#include "ops/optim.h"

namespace dujiang::launch {
namespace {

// The most rows of logits that are worked on at once: the loss is computed in slices.
constexpr std::int64_t loss_rows = 256;

class OpsBench {
 public:
  explicit OpsBench(const BenchOptions& options)
      : preset_(train::preset(options.preset)),
        tokens_(preset_.sequence * preset_.micro_batch),
        dtype_(options.dtype()),
        copy_(copy_ceiling_gbs()) {
    text_ = fmt::format("copy of large memory: {:.1f} GB/s\n{:<26} {:>10} {:>9} {:>9} {:>9} {:>10}\n", copy_, "op",
                        "ms", "GB/s", "of copy", "GFLOP/s", "per step");
  }

  void run() {
    norms();
    rotary();
    activation();
    attention();
    embedding();
    loss();
    optimizer();
  }

  void print(const BenchOptions& options, int threads) {
    text_ += fmt::format("all of these in a step: {:.1f} ms\n", step_ * 1e3);
    options.report.print(text_, {{"preset", options.preset},
                                 {"precision", options.precision},
                                 {"threads", threads},
                                 {"isa", ops::cpu::name_of(ops::cpu::isa())},
                                 {"copy_ceiling_gbs", copy_},
                                 {"step_ms", step_ * 1e3},
                                 {"rows", rows_}});
  }

 private:
  Tensor filled(Shape shape, float value = 0.5f) const { return filled(shape, value, dtype_); }
  static Tensor filled(Shape shape, float value, Dtype dtype) {
    const Tensor tensor = Tensor::empty(shape, dtype);
    tensor.fill(value);
    return tensor;
  }
  static Tensor floats(Shape shape) { return filled(shape, 0.5f, Dtype::f32); }
  Tensor integers(std::int64_t n, std::int64_t below, bool random) const {
    const Tensor tensor = Tensor::empty({n}, Dtype::i32);
    const Philox philox(1, stream_of("bench.ops"));
    for (std::int64_t i = 0; i < n; ++i) {
      const auto u = static_cast<std::uint64_t>(i);
      tensor.data<std::int32_t>()[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(
          random ? philox.below(u, static_cast<std::uint64_t>(below)) : u % static_cast<std::uint64_t>(below));
    }
    return tensor;
  }

  void row(const std::string& op, std::int64_t per_step, const std::function<void()>& call) {
    OpProfile profile;
    {
      const OpObserverScope scope(&profile);
      call();
    }
    const double flops = profile.rows().front().flops, bytes = profile.rows().front().bytes;
    const double seconds = median_seconds(call, 0.3);
    const double gbs = bytes * 1e-9 / seconds;
    const auto times = static_cast<double>(per_step);
    step_ += seconds * times;
    text_ += fmt::format("{:<26} {:>10.3f} {:>9.1f} {:>7.0f} % {:>9} {:>10}\n", op, seconds * 1e3, gbs,
                         100 * gbs / copy_, flops > 0 ? fmt::format("{:.0f}", flops * 1e-9 / seconds) : "", per_step);
    rows_.push_back(
        {{"op", op}, {"ms", seconds * 1e3}, {"gbs", gbs}, {"share_of_copy", gbs / copy_}, {"per_step", per_step}});
    if (flops > 0) rows_.back()["gflops"] = flops * 1e-9 / seconds;
  }

  void norms() {
    const std::int64_t n = tokens_, d = preset_.model.hidden_size, layers = preset_.model.num_hidden_layers;
    const Tensor x = filled({n, d}), r = filled({n, d}), s = filled({n, d}), y = filled({n, d}), w = filled({d});
    const Tensor rstd = floats({n}), dw = floats({d});
    row("rms_norm", 1, [&] { ops::rms_norm(stream_, x, w, 1e-6f, y, rstd); });
    row("add_rms_norm", 2 * layers, [&] { ops::add_rms_norm(stream_, x, r, w, 1e-6f, s, y, rstd); });
    row("rms_norm_backward", 2 * layers + 1, [&] { ops::rms_norm_backward(stream_, y, s, w, rstd, r, x, dw, false); });
  }

  void rotary() {
    const auto& m = preset_.model;
    const std::int64_t n = tokens_, d = m.head_dim;
    const Tensor table = floats({preset_.sequence, d}), positions = integers(n, preset_.sequence, false);
    const Tensor w = filled({d}), dw = floats({d});
    for (const std::int64_t heads : {m.num_attention_heads, m.num_key_value_heads}) {
      const char* which = heads == m.num_attention_heads ? "q" : "k";
      const Tensor x = filled({n, heads, d}), y = filled({n, heads, d}), dx = filled({n, heads, d}),
                   rstd = floats({n, heads});
      row(fmt::format("norm_rope {}", which), m.num_hidden_layers,
          [&] { ops::norm_rope(stream_, x, w, 1e-6f, table, positions, y, rstd); });
      row(fmt::format("norm_rope_backward {}", which), m.num_hidden_layers,
          [&] { ops::norm_rope_backward(stream_, y, x, w, rstd, table, positions, dx, dw, false); });
    }
  }

  void activation() {
    const std::int64_t n = tokens_, d = preset_.model.intermediate_size;
    const Tensor gate = filled({n, d}), up = filled({n, d}), y = filled({n, d}), dgate = filled({n, d}),
                 dup = filled({n, d});
    row("swiglu", preset_.model.num_hidden_layers, [&] { ops::swiglu(stream_, gate, up, y); });
    row("swiglu_backward", preset_.model.num_hidden_layers,
        [&] { ops::swiglu_backward(stream_, y, gate, up, dgate, dup); });
  }

  void attention() {
    const auto& m = preset_.model;
    const std::int64_t n = tokens_, h = m.num_attention_heads, kv = m.num_key_value_heads, d = m.head_dim;
    std::vector<std::int32_t> offsets;
    for (std::int64_t i = 0; i <= preset_.micro_batch; ++i)
      offsets.push_back(static_cast<std::int32_t>(i * preset_.sequence));
    const ops::Segments segments{offsets, offsets};
    const Tensor q = filled({n, h, d}), k = filled({n, kv, d}), v = filled({n, kv, d}), o = filled({n, h, d});
    const Tensor dq = filled({n, h, d}), dk = filled({n, kv, d}), dv = filled({n, kv, d}), lse = floats({n, h});
    row("attention", m.num_hidden_layers, [&] { ops::attention(stream_, q, k, v, segments, 0.125f, o, lse); });
    row("attention_backward", m.num_hidden_layers,
        [&] { ops::attention_backward(stream_, o, q, k, v, o, lse, segments, 0.125f, dq, dk, dv); });
  }

  void embedding() {
    const auto& m = preset_.model;
    const std::int64_t n = tokens_, d = m.hidden_size;
    const Tensor tokens = integers(n, m.vocab_size, true), table = filled({m.vocab_size, d}), y = filled({n, d});
    const Tensor dtable = floats({m.vocab_size, d});
    row("embedding", 1, [&] { ops::embedding(stream_, tokens, table, y); });
    row("embedding_backward", 1, [&] { ops::embedding_backward(stream_, tokens, y, dtable, true); });
  }

  void loss() {
    const std::int64_t n = std::min(tokens_, loss_rows), v = preset_.model.vocab_size;
    const Tensor logits = filled({n, v}), labels = integers(n, v, true), weight = floats({n}), value = floats({n});
    row("softmax_cross_entropy", tokens_ / n,
        [&] { ops::softmax_cross_entropy(stream_, logits, labels, weight, v, 1.0f, true, value); });
  }

  void optimizer() {
    const std::int64_t n = models::parameter_count(preset_.model);
    const bool split = dtype_ == Dtype::bf16;
    const Tensor master = split ? Tensor::zeros({n}, Dtype::u16) : floats({n}), m = floats({n}), v = floats({n}),
                 grad = floats({n}), norm = Tensor::zeros({1}, Dtype::f64);
    const Tensor param = split ? filled({n}) : Tensor();
    row("sum_of_squares", 1, [&] { ops::sum_of_squares(stream_, grad, norm); });
    const ops::AdamwStep step{1e-3f, 0.9f, 0.95f, 1e-8f, 0.1f, 0.1f, 0.05f, 1.0f};
    row("adamw", 1, [&] { ops::adamw(stream_, master, m, v, grad, param, step); });
  }

  train::Preset preset_;
  std::int64_t tokens_;  // of a micro-batch
  Dtype dtype_;
  double copy_, step_ = 0;
  Stream stream_{Device{}};
  std::string text_;
  nlohmann::json rows_ = nlohmann::json::array();
};

}  // namespace

int bench_ops(const BenchOptions& options) {
  const int threads = options.apply_threads();
  OpsBench bench(options);
  bench.run();
  bench.print(options, threads);
  return 0;
}

}  // namespace dujiang::launch
