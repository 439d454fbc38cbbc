#pragma once
// One optimizer step over a rank's part of the global batch: forward and backward per micro-batch, gradients summed
// over ranks, clipping, AdamW. Knows nothing of files, schedules or signals.

#include "comm/communicator.h"
#include "data/loader/batch.h"
#include "framework/models/qwen3.h"
#include "framework/parallel/data_parallel.h"
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

class TrainStep {
 public:
  /// Assigns groups, allocates parameters, gradients and optimizer state. Values are uninitialised: see initialise()
  /// and load_weights(). Model and communicator must outlive this.
  TrainStep(models::Qwen3& model, comm::Communicator& communicator, const OptimizerSection& optimizer,
            Precision precision);

  /// Fresh weights from the seed.
  void initialise(std::uint64_t seed);
  /// Weights from a model directory (ours or transformers').
  void load_weights(const std::filesystem::path& dir);
  /// Everything from a checkpoint of the same model: weights, masters, moments.
  void restore(const std::filesystem::path& checkpoint);
  /// What a checkpoint holds of this.
  std::vector<NamedTensor> weights() const;
  std::vector<NamedTensor> optimizer_state() const { return optimizer_.state(); }

  /// Runs step number `step` (from 1, as AdamW's bias correction counts). Error naming step, rank and the first bad
  /// tensor when the loss or a gradient is not finite (fp16 gradients excepted: that step is skipped).
  StepResult run(const data::Batch& batch, std::int64_t micro_batch, std::int64_t step, double lr);

  const LossScale& loss_scale() const { return loss_scale_; }
  void set_loss_scale(LossScale scale) { loss_scale_ = scale; }
  Precision precision() const { return precision_; }
  models::Qwen3& model() { return model_; }

 private:
  double micro_batch_loss(const data::Batch& part, double grad_scale, StepResult& result);
  [[noreturn]] void report_bad_loss(const data::Batch& batch, std::int64_t step);

  models::Qwen3& model_;
  comm::Communicator& communicator_;
  OptimizerSection section_;
  Precision precision_;
  std::unique_ptr<parallel::DataParallel> data_parallel_;
  AdamW optimizer_;
  LossScale loss_scale_;
};

/// The tensors of a batch that a model takes.
struct ModelInput {
  Tensor tokens, labels, loss_weight;
  nn::StepContext context;
};
ModelInput model_input(const data::Batch& batch);

}  // namespace dujiang::train
