#pragma once
// One optimizer step over a rank's part of the global batch: forward and backward per micro-batch, gradients summed
// over ranks, clipping, the optimizer. Lays the model over the ranks; knows nothing of files' places, schedules or
// signals.

#include "comm/communicator.h"
#include "data/loader/batch.h"
#include "framework/models/qwen3.h"
#include "framework/parallel/data_parallel.h"
#include "framework/parallel/mesh.h"
#include "framework/parallel/tensor_parallel.h"
#include "framework/train/optimizer.h"

namespace dujiang::train {

/// The dtype of activations and of the working copy of the weights.
Dtype compute_dtype(Precision precision);

/// Dynamic loss scaling for fp16 (Micikevicius et al. 2018): halved when a gradient overflows, doubled after `interval`
/// steps without.
struct LossScale {
  static constexpr std::int64_t interval = 1000;
  double scale = 1.0;
  std::int64_t good_steps = 0;
  void update(bool overflow);
};

struct StepResult {
  double loss = 0;       ///< mean over the global batch's labels
  double grad_norm = 0;  ///< before clipping
  double labels = 0;     ///< in the global batch
  bool skipped = false;  ///< fp16 overflow: weights unchanged, on all ranks
  double forward_ms = 0, backward_ms = 0, comm_exposed_ms = 0, optimizer_ms = 0;
};

/// How a step is run; fields as in the config.
struct StepOptions {
  OptimizerSection optimizer;
  Precision precision = Precision::bf16;
  ParallelSection parallel = {};
  Recompute recompute = Recompute::elementwise;
  std::int64_t recompute_every = 1;
  bool strict = false;
  std::int64_t strict_ways = 8;
};
StepOptions step_options(const Config& config);

/// Which sequences of a global batch a rank takes: count of them, from first, every stride-th.
struct BatchShare {
  std::int64_t first, count, stride;
};
/// Of rank `rank` of `ranks` along dp. UserError when they can't share the batch.
BatchShare batch_share(std::int64_t global_batch, std::int64_t ranks, std::int64_t rank, bool strided);

class TrainStep {
 public:
  /// Collective over `world`. Lays the model out, assigns groups, allocates parameters, gradients and optimizer state.
  /// Values are uninitialised: see initialise() and load_weights(). Model and communicator must outlive this. UserError
  /// for a layout that the ranks or the model don't allow.
  TrainStep(models::Qwen3& model, comm::Communicator& world, const StepOptions& options);

  const parallel::Mesh& mesh() const { return mesh_; }
  /// This rank's sequences. UserError when the ranks along dp can't share the batch, or (strict) not in a binary tree.
  BatchShare share_of(std::int64_t global_batch) const;

  /// Fresh weights from the seed.
  void initialise(std::uint64_t seed);
  /// Weights from a model directory (ours or transformers').
  void load_weights(const std::filesystem::path& dir);
  /// Everything from a checkpoint of the same model, saved by any layout: weights, masters, moments.
  void restore(const std::filesystem::path& checkpoint);
  /// The values that all ranks along dp hold: all of them, or under ZeRO stage 3 those of no block.
  std::vector<Tensor> shared_values();
  /// What a checkpoint holds of this: every element on one rank.
  std::vector<TensorPart> weights() const;
  std::vector<TensorPart> optimizer_state() const;

  /// Runs step number `step` (from 1, as AdamW's bias correction counts) on this rank's share of the batch. Error
  /// naming step, rank and the first bad tensor when the loss or a gradient is not finite (fp16 gradients excepted:
  /// that step is skipped). In strict mode sequences run one by one, whatever `micro_batch`.
  StepResult run(const data::Batch& batch, std::int64_t micro_batch, std::int64_t step, double lr);

  const LossScale& loss_scale() const { return loss_scale_; }
  void set_loss_scale(LossScale scale) { loss_scale_ = scale; }
  Precision precision() const { return options_.precision; }
  bool strict() const { return options_.strict; }
  models::Qwen3& model() { return model_; }

 private:
  /// Optimizer::set_masters(), on every rank that holds the values.
  void set_masters(const std::function<void(const StateSlice&)>& fill);
  double micro_batch_loss(const data::Batch& part, double grad_scale, StepResult& result);
  double sum_over_batch(std::span<const double> of_micro_batches) const;
  [[noreturn]] void report_bad_gradient(std::int64_t step);
  [[noreturn]] void report_bad_loss(const data::Batch& batch, std::int64_t step);
  TensorPart part_of(const std::string& name, const nn::Parameter& parameter, Dtype dtype,
                     const std::map<std::string, StateSlice>& slices) const;

  models::Qwen3& model_;
  StepOptions options_;
  parallel::Mesh mesh_;
  std::unique_ptr<parallel::TensorParallel> tensor_;
  std::unique_ptr<parallel::DataParallel> data_parallel_;
  std::unique_ptr<Optimizer> optimizer_;
  LossScale loss_scale_;
};

/// The tensors of a batch that a model takes.
struct ModelInput {
  Tensor tokens, labels, loss_weight;
  nn::StepContext context;
};
ModelInput model_input(const data::Batch& batch);

}  // namespace dujiang::train
