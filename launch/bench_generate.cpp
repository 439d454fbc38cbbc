#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "framework/base/check.h"
#include "framework/train/bench_train.h"
#include "framework/train/generate.h"
#include "framework/train/load_model.h"
#include "launch/bench.h"
#include "ops/cpu/isa.h"

namespace dujiang::launch {
namespace {

std::unique_ptr<models::Qwen3> fresh_model(const models::ModelConfig& config, Dtype dtype) {
  auto model = std::make_unique<models::Qwen3>(config);
  for (auto* parameter : model->parameters()) {
    parameter->value = Tensor::empty(parameter->shape, dtype);
    nn::initialise(*parameter, 0, parameter->value);
  }
  return model;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

int bench_generate(const BenchOptions& options) {
  using Clock = std::chrono::steady_clock;
  const int threads = options.apply_threads();
  const Dtype dtype = options.dtype();
  const auto model = options.folder.empty() ? fresh_model(train::preset(options.preset).model, dtype)
                                            : train::load_model(options.folder, dtype);
  const auto& m = model->config();
  const std::int64_t prompt = options.prompt, made = options.new_tokens, batch = options.sequences;
  if (prompt + made > m.max_position_embeddings)
    fail_user("--prompt {} and --new {}: the model has {} positions", prompt, made, m.max_position_embeddings);
  std::vector<std::vector<std::int32_t>> prompts(static_cast<std::size_t>(batch));
  for (std::int64_t i = 0; i < batch * prompt; ++i)
    prompts[static_cast<std::size_t>(i / prompt)].push_back(static_cast<std::int32_t>((1 + 7919 * i) % m.vocab_size));

  std::vector<double> first, later, whole;
  std::vector<std::vector<std::int32_t>> tokens;
  const auto run = [&] {
    const auto begin = Clock::now();
    const auto since = [&] { return std::chrono::duration<double, std::milli>(Clock::now() - begin).count(); };
    double prefill = 0;
    std::int64_t heard = 0;
    tokens = train::generate_batch(*model, prompts, {}, {.max_new_tokens = made, .temperature = 0},
                                   [&](std::size_t, std::int32_t) {
                                     if (++heard == batch) prefill = since();
                                     return true;
                                   });
    whole.push_back(since());
    first.push_back(prefill);
    later.push_back((whole.back() - prefill) / static_cast<double>(std::max<std::int64_t>(made - 1, 1)));
  };
  run();
  for (auto* figures : {&first, &later, &whole}) figures->clear();
  do run();
  while (whole.size() < 3 || (whole.size() < 100 && whole.size() * whole.back() < 2000));

  // What one step must read: all weights, of an untied embedding a few rows only; keys and values of half the new
  // tokens on average.
  const std::int64_t weights = models::parameter_count(m) - (m.tie_word_embeddings ? 0 : m.vocab_size * m.hidden_size);
  const std::int64_t kept = 2 * m.num_hidden_layers * m.num_key_value_heads * m.head_dim * (prompt + made / 2) * batch;
  const double bytes = static_cast<double>(weights + kept) * static_cast<double>(size_of(dtype));
  const double prefill_ms = median(first), step_ms = median(later), total_ms = median(whole), copy = copy_ceiling_gbs();
  const double rate = bytes * 1e-6 / step_ms, tokens_per_s = static_cast<double>(batch * made) / total_ms * 1e3;
  options.report.print(
      fmt::format("{} {}, {} threads ({}): {} prompts of {} tokens in {:.1f} ms, then {:.2f} ms a step\n"
                  "{:.0f} new tokens/s with the prompts; a step reads {:.0f} MB: {:.1f} GB/s, {:.0f} % of the {:.1f} "
                  "GB/s of a copy\n",
                  options.folder.empty() ? options.preset : options.folder, options.precision, threads,
                  ops::cpu::name_of(ops::cpu::isa()), batch, prompt, prefill_ms, step_ms, tokens_per_s, bytes * 1e-6,
                  rate, 100 * rate / copy, copy),
      {{"model", options.folder.empty() ? options.preset : options.folder},
       {"precision", options.precision},
       {"threads", threads},
       {"isa", ops::cpu::name_of(ops::cpu::isa())},
       {"batch", batch},
       {"prompt", prompt},
       {"new", made},
       {"ms", total_ms},
       {"prefill_ms", prefill_ms},
       {"ms_per_token", step_ms},
       {"tokens_per_s", tokens_per_s},
       {"bytes_per_step", bytes},
       {"gbs", rate},
       {"copy_gbs", copy},
       {"share_of_copy", rate / copy},
       {"tokens", tokens}});
  return 0;
}

}  // namespace dujiang::launch
