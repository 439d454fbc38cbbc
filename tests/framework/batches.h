#pragma once
// Batches made in memory, and models over them, for tests of the training step.

#include <memory>
#include <vector>

#include "comm/host/self_communicator.h"
#include "data/loader/batch.h"
#include "framework/train/train_step.h"
#include "tests/framework/synthetic.h"

namespace dujiang::test {

/// Rows of one document each, every token's successor one of three: something to learn. Row r of batch `number` is a
/// function of (number, r) alone. The first `unlabelled` + r % 3 tokens of row r have no label.
data::Batch markov_batch(std::int64_t sequences, std::int64_t length, std::int64_t vocabulary, std::uint64_t number,
                         std::int64_t unlabelled = 0);

train::OptimizerSection adamw(double lr = 3e-3);

/// Whole tensors in f32, from what each rank would write of them. Collective.
std::vector<train::NamedTensor> whole(const std::vector<train::TensorPart>& parts, comm::Communicator& ranks);

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
