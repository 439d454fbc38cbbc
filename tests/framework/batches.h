#pragma once
// Batches made in memory, and models over them, for tests of the training step.

#include <memory>
#include <vector>

#include "comm/host/self_communicator.h"
#include "data/loader/batch.h"
#include "framework/base/philox.h"
#include "framework/train/train_step.h"
#include "tests/framework/synthetic.h"

namespace dujiang::test {

/// Rows of one document each, every token's successor one of three: something to learn. Row r of batch `number` is a
/// function of (number, r) alone. The first `unlabelled` + r % 3 tokens of row r have no label.
inline data::Batch markov_batch(std::int64_t sequences, std::int64_t length, std::int64_t vocabulary,
                                std::uint64_t number, std::int64_t unlabelled = 0) {
  data::Batch batch;
  batch.sequences = sequences;
  batch.length = length;
  batch.segments.push_back(0);
  const Philox table(11, 0);
  const auto v = static_cast<std::uint64_t>(vocabulary);
  for (std::int64_t row = 0; row < sequences; ++row) {
    const Philox random(13, number * 1000 + static_cast<std::uint64_t>(row));
    auto token = static_cast<std::int32_t>(random.below(0, v));
    for (std::int64_t i = 0; i < length; ++i) {
      const auto successor = 3 * static_cast<std::uint64_t>(token) + random.below(static_cast<std::uint64_t>(i) + 1, 3);
      const auto next = static_cast<std::int32_t>(table.below(successor, v));
      const bool counts = i >= unlabelled + row % 3;
      batch.tokens.push_back(token);
      batch.labels.push_back(counts ? next : data::no_label);
      batch.loss_weight.push_back(counts ? 1.0f : 0.0f);
      batch.positions.push_back(static_cast<std::int32_t>(i));
      batch.weight_sum += counts;
      token = next;
    }
    batch.segments.push_back(static_cast<std::int32_t>(batch.tokens.size()));
  }
  return batch;
}

inline train::OptimizerSection adamw(double lr = 3e-3) {
  train::OptimizerSection section;
  section.lr = lr;
  return section;
}

/// Whole tensors in f32, from what each rank would write of them. Collective.
inline std::vector<train::NamedTensor> whole(const std::vector<train::TensorPart>& parts, comm::Communicator& ranks) {
  std::vector<train::NamedTensor> all;
  for (const auto& part : parts) {
    const Tensor tensor = Tensor::zeros(part.global, Dtype::f32);
    for (const auto& piece : part.pieces) {
      const auto values = piece.read(0, piece.elements.count()).floats();
      for (const auto& run : piece.runs)
        std::copy_n(values.begin() + run.local, run.count, tensor.data<float>().begin() + run.global);
    }
    ranks.all_reduce(comm::buffer_of(tensor), comm::Reduce::sum, default_stream({})).wait_host();
    all.push_back({part.name, tensor});
  }
  return all;
}

/// A model and its training step on one rank.
struct Trainee {
  std::unique_ptr<comm::Communicator> self = comm::make_self_communicator();
  models::Qwen3 model;
  train::TrainStep step;

  Trainee(const models::ModelConfig& config, const train::OptimizerSection& optimizer, train::Precision precision,
          std::uint64_t seed = 5)
      : model(config), step(model, *self, {.optimizer = optimizer, .precision = precision}) {
    step.initialise(seed);
  }
  std::vector<train::NamedTensor> weights() const { return whole(step.weights(), *self); }
  std::vector<train::NamedTensor> optimizer_state() const { return whole(step.optimizer_state(), *self); }
};

}  // namespace dujiang::test
