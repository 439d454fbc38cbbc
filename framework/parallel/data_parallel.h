#pragma once
// Data parallelism with ZeRO: ranks along dp take parts of the batch, gradients are summed while the rest of the
// backward pass still runs, and values that a rank doesn't keep are gathered ahead of their use.

#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "comm/communicator.h"
#include "framework/parallel/flat_bucket.h"
#include "framework/parallel/tensor_parallel.h"

namespace dujiang::parallel {

struct DataParallelOptions {
  Dtype dtype = Dtype::f32;  ///< of values
  int zero = 0;              ///< stage 0 to 3; means 0 where there is one rank
  bool strict = false;       ///< a micro-batch is one sequence, and their gradients are added in a binary tree
};

/// Wraps each of `blocks`. At its entrance its values are there, and the next block's are on their way; backward
/// reaches the entrance again when the block's gradients are complete, and starts their reduction. What lies in no
/// block (embedding, head, last norm) is one more bucket that is used from the first to the last moment of a step: it
/// is kept whole in stages 2 and 3 too, but for its optimizer state.
class DataParallel {
 public:
  /// Collective over `dp`. Parameters get their memory here. All must outlive the model; `tensor` may be null.
  DataParallel(nn::Module& model, std::span<nn::Module* const> blocks, const DataParallelOptions& options,
               comm::Communicator& dp, const TensorParallel* tensor);

  const std::vector<std::unique_ptr<FlatBucket>>& buckets() const { return buckets_; }
  comm::Communicator& ranks() const { return dp_; }
  int zero() const { return zero_; }
  Dtype dtype() const { return dtype_; }
  /// Elements of the part of a trainable parameter that are in this rank's share of its bucket, whatever the stage.
  FlatBucket::Range share_of(const nn::Parameter& parameter) const;
  /// Whether this rank keeps all values at all times.
  bool values_are_whole() const { return zero_ < 3; }

  /// Before a micro-batch. Gradients start anew with the first of a step.
  void begin_micro_batch(bool first, bool last);
  /// After its backward pass. After the last one, every bucket's owned_grad() is the sum over all ranks' micro-batches
  /// when it returns. Returns the milliseconds that were spent waiting.
  double finish_micro_batch();
  /// After the optimizer changed the buckets' values.
  void publish_values();

 private:
  Tensor run_block(std::size_t i, const Tensor& x, const nn::Module::Next& next);
  void before_backward(std::size_t i);
  void gradients_complete(std::size_t i);
  void settle_oldest();

  comm::Communicator& dp_;
  const TensorParallel* tensor_;
  int zero_;
  Dtype dtype_;
  std::vector<std::unique_ptr<FlatBucket>> buckets_;  ///< the blocks', then what lies in none
  enum class Gradients { none, open, complete };
  std::vector<Gradients> gradients_of_;  ///< by bucket, in this micro-batch
  std::deque<FlatBucket*> reducing_;     ///< in the order they were started
  bool first_ = false, last_ = false;
};

}  // namespace dujiang::parallel
