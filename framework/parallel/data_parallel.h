#pragma once
// Data parallelism: every rank holds the whole model and a part of the batch; gradients are summed over ranks while
// the rest of the backward pass still runs.

#include <memory>
#include <set>

#include "comm/communicator.h"
#include "framework/parallel/flat_bucket.h"

namespace dujiang::parallel {

/// Wraps each of `blocks` with an identity node at its input. Backward reaches that node when the block's gradients
/// are complete, and the block's bucket starts its all_reduce there. What lies in no block (embedding, head, last norm)
/// is one more bucket; it, and any whose node backward did not reach, is reduced at the end of backward.
class DataParallel {
 public:
  /// Allocates the buckets (FlatBucket) for all parameters of `model`, gradients where the communicator reaches them
  /// fastest. Collective. The communicator must outlive this.
  DataParallel(nn::Module& model, std::span<nn::Module* const> blocks, Dtype dtype, comm::Communicator& communicator);

  const std::vector<std::unique_ptr<FlatBucket>>& buckets() const { return buckets_; }

  /// Before a micro-batch. Gradients are cleared before the first and reduced during the last one's backward.
  void begin_micro_batch(bool first, bool last);
  /// After the last micro-batch's backward: all gradients are the sums over all ranks' micro-batches when it returns.
  /// Returns the milliseconds that were spent waiting here.
  double finish();

 private:
  void launch(FlatBucket& bucket);

  comm::Communicator& communicator_;
  std::vector<std::unique_ptr<FlatBucket>> buckets_;
  std::set<const FlatBucket*> launched_;  ///< in this step
  std::vector<comm::Work> pending_;
  bool reducing_ = false;
};

}  // namespace dujiang::parallel
