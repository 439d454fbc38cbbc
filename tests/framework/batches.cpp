#include "tests/framework/batches.h"

#include <algorithm>

#include "framework/base/philox.h"

namespace dujiang::test {

data::Batch markov_batch(std::int64_t sequences, std::int64_t length, std::int64_t vocabulary, std::uint64_t number,
                         std::int64_t unlabelled) {
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

train::OptimizerSection adamw(double lr) {
  train::OptimizerSection section;
  section.lr = lr;
  return section;
}

std::vector<train::NamedTensor> whole(const std::vector<train::TensorPart>& parts, comm::Communicator& ranks) {
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

}  // namespace dujiang::test
