// Our side of tests/hf/train_compare.py: trains a model directory on given batches.
//   train_compare MODEL BATCHES.safetensors OUT.json
// BATCHES holds tokens and labels, i32 [steps, sequences, length]; its metadata lr, warmup, min_lr and micro_batch.

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "comm/host/self_communicator.h"
#include "framework/base/threads.h"
#include "framework/train/lr_schedule.h"
#include "framework/train/train_step.h"

using namespace dujiang;

namespace {

data::Batch batch_of(std::span<const std::int32_t> tokens, std::span<const std::int32_t> labels, std::int64_t sequences,
                     std::int64_t length) {
  data::Batch batch;
  batch.sequences = sequences;
  batch.length = length;
  batch.tokens.assign(tokens.begin(), tokens.end());
  batch.labels.assign(labels.begin(), labels.end());
  for (std::int64_t row = 0; row <= sequences; ++row) batch.segments.push_back(static_cast<std::int32_t>(row * length));
  for (std::int64_t i = 0; i < sequences * length; ++i)
    batch.positions.push_back(static_cast<std::int32_t>(i % length));
  for (const auto label : labels) batch.loss_weight.push_back(label == data::no_label ? 0.0f : 1.0f);
  batch.weight_sum = std::accumulate(batch.loss_weight.begin(), batch.loss_weight.end(), 0.0);
  return batch;
}

void train_on(const std::string& model_dir, const std::string& batches, const std::string& out) {
  const train::SafetensorsFile file(batches);
  const auto setting = [&](const char* name) { return std::stod(file.metadata().at(name)); };
  const Shape shape = file.entry("tokens").shape;
  const std::int64_t steps = shape[0], each = shape[1] * shape[2];
  const Tensor tokens = file.read("tokens"), labels = file.read("labels");

  train::OptimizerSection optimizer;  // AdamW with the defaults: betas 0.9, 0.95; eps 1e-8; decay 0.1; clip 1.0
  optimizer.lr = setting("lr");
  const train::ScheduleSection schedule{.name = train::ScheduleName::cosine,
                                        .warmup = static_cast<std::int64_t>(setting("warmup")),
                                        .min_lr = setting("min_lr")};
  models::Qwen3 model(models::from_hf_json(std::filesystem::path(model_dir) / "config.json"));
  const auto self = comm::make_self_communicator();
  train::TrainStep step(model, *self, {.optimizer = optimizer, .precision = train::Precision::fp32});
  step.load_weights(model_dir);
  auto result = nlohmann::json{{"loss", nlohmann::json::array()}, {"grad_norm", nlohmann::json::array()}};
  for (std::int64_t s = 0; s < steps; ++s) {
    const auto part = [&](const Tensor& t) {
      return t.data<std::int32_t>().subspan(static_cast<std::size_t>(s * each), static_cast<std::size_t>(each));
    };
    const auto done = step.run(batch_of(part(tokens), part(labels), shape[1], shape[2]),
                               static_cast<std::int64_t>(setting("micro_batch")), s + 1,
                               train::learning_rate(schedule, optimizer.lr, s + 1, steps));
    result["loss"].push_back(done.loss);
    result["grad_norm"].push_back(done.grad_norm);
  }
  std::ofstream(out) << result.dump() << "\n";
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc != 4) fail_user("usage: train_compare MODEL BATCHES.safetensors OUT.json");
    train_on(argv[1], argv[2], argv[3]);
  } catch (const Error& error) {
    fmt::print(stderr, "train_compare: {}\n", error.what());
    return error.exit_status();
  }
}
