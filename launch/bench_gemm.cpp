#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "framework/tensor/tensor.h"
#include "framework/train/bench_train.h"
#include "framework/train/gemm_ceiling.h"
#include "launch/bench.h"
#include "ops/cpu/isa.h"
#include "ops/matmul.h"

namespace dujiang::launch {
namespace {

struct Product {
  std::string name;
  std::int64_t in, out, times;  // times: how often in one step
};

}  // namespace

int bench_gemm(const BenchOptions& options) {
  const int threads = options.apply_threads();
  const auto preset = train::preset(options.preset);
  const auto& m = preset.model;
  const Dtype dtype = options.dtype();
  const std::int64_t n = preset.sequence * preset.micro_batch, layers = m.num_hidden_layers;
  const std::vector<Product> products{{"q", m.hidden_size, m.num_attention_heads * m.head_dim, layers},
                                      {"k, v", m.hidden_size, m.num_key_value_heads * m.head_dim, 2 * layers},
                                      {"o", m.num_attention_heads * m.head_dim, m.hidden_size, layers},
                                      {"gate, up", m.hidden_size, m.intermediate_size, 2 * layers},
                                      {"down", m.intermediate_size, m.hidden_size, layers},
                                      {"head", m.hidden_size, m.vocab_size, 1}};

  const double ceiling = train::gemm_ceiling_gflops(dtype, 0.3);
  std::string text = fmt::format("{} {} threads {} ({}): ceiling {:.0f} GFLOP/s\n{:<10} {:>13} {:>26} {:>26} {:>26}\n",
                                 options.preset, options.precision, threads, ops::cpu::name_of(ops::cpu::isa()),
                                 ceiling, "product", "shape", "forward", "input gradient", "weight gradient");
  auto rows = nlohmann::json::array();
  double step = 0, step_flops = 0;
  Stream stream{Device{}};
  for (const auto& product : products) {
    const Tensor x = Tensor::empty({n, product.in}, dtype), dx = Tensor::empty({n, product.in}, dtype);
    const Tensor y = Tensor::empty({n, product.out}, dtype);
    const Tensor w = Tensor::empty({product.out, product.in}, dtype);
    const Tensor dw = Tensor::empty({product.out, product.in}, Dtype::f32);
    for (const auto* tensor : {&x, &y, &w}) tensor->fill(0.125f);
    const double flops = 2.0 * static_cast<double>(n * product.in * product.out);
    text += fmt::format("{:<10} {:>13}", product.name, fmt::format("{}x{}", product.in, product.out));
    const auto measure = [&](const char* pass, const std::function<void()>& call) {
      const double seconds = median_seconds(call, 0.2);
      const double gflops = flops * 1e-9 / seconds;
      text += fmt::format(" {:>9.3f} ms {:>5.0f} GF {:>4.0f} %", seconds * 1e3, gflops, 100 * gflops / ceiling);
      rows.push_back({{"product", product.name},
                      {"pass", pass},
                      {"tokens", n},
                      {"in", product.in},
                      {"out", product.out},
                      {"per_step", product.times},
                      {"ms", seconds * 1e3},
                      {"gflops", gflops},
                      {"share_of_ceiling", gflops / ceiling}});
      step += seconds * static_cast<double>(product.times);
      step_flops += flops * static_cast<double>(product.times);
    };
    measure("forward", [&] { ops::matmul(stream, x, w.transpose(0, 1), y, false); });
    measure("input_gradient", [&] { ops::matmul(stream, y, w, dx, false); });
    measure("weight_gradient", [&] { ops::matmul(stream, y.transpose(0, 1), x, dw, false); });
    text += "\n";
  }
  text += fmt::format("all products of a step: {:.1f} ms, {:.0f} GFLOP/s, {:.0f} % of the ceiling\n", step * 1e3,
                      step_flops * 1e-9 / step, 100 * step_flops * 1e-9 / step / ceiling);
  options.report.print(text, {{"preset", options.preset},
                              {"precision", options.precision},
                              {"threads", threads},
                              {"isa", ops::cpu::name_of(ops::cpu::isa())},
                              {"gemm_ceiling_gflops", ceiling},
                              {"step_ms", step * 1e3},
                              {"gflops", step_flops * 1e-9 / step},
                              {"share_of_ceiling", step_flops * 1e-9 / step / ceiling},
                              {"rows", rows}});
  return 0;
}

}  // namespace dujiang::launch
