#include "framework/train/bench_train.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>

#include "framework/base/allocator.h"
#include "framework/base/philox.h"
#include "framework/train/train_step.h"

namespace dujiang::train {
namespace {

data::Batch random_batch(std::int64_t sequences, std::int64_t length, std::int64_t vocabulary, std::uint64_t stream) {
  data::Batch batch;
  batch.sequences = sequences;
  batch.length = length;
  batch.segments.push_back(0);
  const Philox random(0, stream);
  for (std::int64_t s = 0; s < sequences; ++s) {
    const auto token = [&](std::int64_t i) {
      return static_cast<std::int32_t>(
          random.below(static_cast<std::uint64_t>(s * (length + 1) + i), static_cast<std::uint64_t>(vocabulary)));
    };
    for (std::int64_t i = 0; i < length; ++i) {
      batch.tokens.push_back(token(i));
      batch.labels.push_back(token(i + 1));
      batch.positions.push_back(static_cast<std::int32_t>(i));
    }
    batch.segments.push_back(static_cast<std::int32_t>((s + 1) * length));
  }
  batch.loss_weight.assign(batch.tokens.size(), 1.0f);
  batch.weight_sum = static_cast<double>(batch.tokens.size());
  return batch;
}

std::uint64_t page_faults() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_minflt + usage.ru_majflt);
}

double exposed_ms(const comm::Communicator& ranks) {
  double seconds = 0;
  for (int op = 0; op < static_cast<int>(comm::op_count); ++op)
    seconds += ranks.stats(static_cast<comm::Op>(op)).exposed_seconds;
  return 1e3 * seconds;
}

}  // namespace

Preset preset(std::string_view name) {
  struct Row {
    std::string_view name;
    std::int64_t hidden, layers, heads, kv_heads, head_dim, ffn, vocabulary, sequence, micro_batch;
  };
  static constexpr Row rows[] = {{"10m", 256, 8, 4, 2, 64, 768, 8192, 256, 16},
                                 {"100m", 768, 12, 12, 4, 64, 2048, 32768, 1024, 2},
                                 {"500m", 1280, 20, 20, 4, 64, 3456, 32768, 1024, 1}};
  for (const auto& row : rows) {
    if (row.name != name) continue;
    Preset p{.name = row.name, .model = {}, .sequence = row.sequence, .micro_batch = row.micro_batch};
    p.model.hidden_size = row.hidden;
    p.model.num_hidden_layers = row.layers;
    p.model.num_attention_heads = row.heads;
    p.model.num_key_value_heads = row.kv_heads;
    p.model.head_dim = row.head_dim;
    p.model.intermediate_size = row.ffn;
    p.model.vocab_size = row.vocabulary;
    p.model.max_position_embeddings = row.sequence;
    p.model.tie_word_embeddings = true;
    return p;
  }
  fail_user("preset '{}': expected 10m, 100m or 500m", name);
}

BenchTrainResult bench_train(const Preset& preset, const BenchTrainOptions& options, comm::Communicator& communicator) {
  BenchTrainResult result;
  result.parameters = models::parameter_count(preset.model);
  result.micro_batch = options.micro_batch > 0 ? options.micro_batch : preset.micro_batch;
  result.sequence = options.sequence > 0 ? options.sequence : preset.sequence;
  auto config = preset.model;
  config.max_position_embeddings = std::max(config.max_position_embeddings, result.sequence);
  models::Qwen3 model(config);
  TrainStep step(model, communicator, options.step);
  const auto &dp = step.mesh().dp(), &tp = step.mesh().tp();
  step.initialise(0);

  struct Timed {
    double ms;
    StepResult step;
    double dp_ms, tp_ms;  // waited for others
  };
  std::vector<Timed> timed;
  std::vector<std::uint64_t> faults_of_steps;
  timed.reserve(static_cast<std::size_t>(options.steps));
  faults_of_steps.reserve(static_cast<std::size_t>(options.steps));
  for (int i = 0; i < options.warmup + options.steps; ++i) {
    const bool counted = i >= options.warmup;
    if (i == options.warmup) reset_host_allocator_peak();
    const OpObserverScope observer(counted ? options.profile : nullptr);
    const auto stream = static_cast<std::uint64_t>(i * dp.size() + dp.rank());
    const double dp_before = exposed_ms(dp), tp_before = exposed_ms(tp);
    const auto allocations = host_allocator_stats().system_calls, faults = page_faults();
    const auto begin = std::chrono::steady_clock::now();
    const OpSection section("step");
    const auto batch = random_batch(result.micro_batch, result.sequence, config.vocab_size, stream);
    const auto outcome = step.run(batch, result.micro_batch, i + 1, 3e-4);
    const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
    result.loss = outcome.loss;
    if (!counted) continue;
    timed.push_back({ms, outcome, exposed_ms(dp) - dp_before, exposed_ms(tp) - tp_before});
    result.allocations_per_step =
        std::max(result.allocations_per_step, host_allocator_stats().system_calls - allocations);
    faults_of_steps.push_back(page_faults() - faults);
  }
  std::sort(timed.begin(), timed.end(), [](const Timed& a, const Timed& b) { return a.ms < b.ms; });
  // With an even number of steps the median lies between the two in the middle.
  const auto& middle = timed[timed.size() / 2];
  result.step_ms = (timed[(timed.size() - 1) / 2].ms + middle.ms) / 2;
  result.step_ms_min = timed.front().ms;
  result.step_ms_max = timed.back().ms;
  result.forward_ms = middle.step.forward_ms;
  result.backward_ms = middle.step.backward_ms;
  if (dp.size() > 1) result.dp_exposed_ms = middle.dp_ms;
  if (tp.size() > 1) result.tp_exposed_ms = middle.tp_ms;
  result.optimizer_ms = middle.step.optimizer_ms;
  result.tokens_per_s = static_cast<double>(result.micro_batch * result.sequence * dp.size()) / result.step_ms * 1e3;
  result.gflops = result.tokens_per_s * models::training_flops_per_token(config, result.sequence) / 1e9;
  std::sort(faults_of_steps.begin(), faults_of_steps.end());
  result.page_faults_per_step = faults_of_steps[faults_of_steps.size() / 2];
  result.mesh = step.mesh().str();
  result.peak_tensor_mib = static_cast<double>(host_allocator_stats().peak) / 1048576.0;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  result.peak_rss_mib = static_cast<double>(usage.ru_maxrss) / 1024.0;
  return result;
}

}  // namespace dujiang::train
