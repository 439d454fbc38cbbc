#pragma once
// The benchmark workloads: whole training steps of fixed models on random tokens.

#include <string>
#include <string_view>

#include "comm/communicator.h"
#include "framework/base/op_profile.h"
#include "framework/train/train_step.h"

namespace dujiang::train {

struct Preset {
  std::string_view name;
  models::ModelConfig model;
  std::int64_t sequence, micro_batch;
};
/// "10m", "100m" or "500m": Qwen3 decoders with tied embeddings. UserError for another name.
Preset preset(std::string_view name);

struct BenchTrainOptions {
  StepOptions step;
  int warmup = 2, steps = 6;
  std::int64_t micro_batch = 0, sequence = 0;  ///< 0: the preset's
  OpProfile* profile = nullptr;                ///< of the counted steps' ops, inside of sections "step"
};

struct BenchTrainResult {
  std::int64_t parameters = 0, micro_batch = 0, sequence = 0;
  double step_ms = 0, step_ms_min = 0, step_ms_max = 0;  ///< median and extremes of the counted steps
  double tokens_per_s = 0;                               ///< over all ranks
  double gflops = 0;  ///< (6 * parameters + 6 * layers * heads * head_dim * sequence) per token
  double forward_ms = 0, backward_ms = 0, optimizer_ms = 0;  ///< of the median step, with what it waits for others
  double dp_exposed_ms = 0, tp_exposed_ms = 0;               ///< waited for communication along an axis, likewise
  double loss = 0;
  double peak_rss_mib = 0;
  double peak_tensor_mib = 0;  ///< in use at once in the counted steps: tensors, buckets, the kernels' scratch memory
  std::uint64_t allocations_per_step = 0;  ///< of tensors' memory, from the system: the most in a counted step
  std::uint64_t page_faults_per_step = 0;  ///< the median of the counted steps
  std::string mesh;                        ///< "dp 2"
};

/// A step is forward, backward, clip at 1.0 and AdamW; every rank along dp runs one micro-batch. Collective.
BenchTrainResult bench_train(const Preset& preset, const BenchTrainOptions& options, comm::Communicator& communicator);

}  // namespace dujiang::train
