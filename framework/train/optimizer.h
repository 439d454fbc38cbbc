#pragma once
// AdamW over flat buckets: fp32 master weights and moments, the copy in the compute dtype written on the way.

#include <memory>
#include <span>

#include "framework/parallel/flat_bucket.h"
#include "framework/train/config.h"
#include "framework/train/safetensors.h"

namespace dujiang::train {

/// Sets trainable and Group of every parameter: no decay for norms (rank 1), else the section's, then the first of the
/// section's groups that matches the path. UserError naming a group that matches nothing, or when nothing is trainable.
void assign_groups(std::span<nn::Parameter* const> parameters, const OptimizerSection& section);

class AdamW {
 public:
  /// Allocates state for the buckets, which must outlive this. Moments are zero, masters uninitialised.
  AdamW(const std::vector<std::unique_ptr<parallel::FlatBucket>>& buckets, const OptimizerSection& section);

  /// The fp32 weights: [count] per bucket; where the compute dtype is f32, they are the values themselves.
  /// Whoever fills the masters calls publish() to round them into the values.
  void for_each_master(const std::function<void(const nn::Parameter&, const Tensor&)>& visitor) const;
  void publish() const;

  /// The sum of the squares of all gradients; not finite when one of them is not.
  double squared_norm() const;
  /// Update number `step` (from 1), all gradients multiplied by grad_scale first.
  void update(std::int64_t step, double lr, double grad_scale);

  /// PARAMETER.m, .v and, where the compute dtype is not f32, .master, as views to save or to load into.
  std::vector<NamedTensor> state() const;

 private:
  struct State {
    const parallel::FlatBucket* bucket;
    Tensor master, m, v;
    struct Range {
      std::int64_t offset, count;
      nn::Group group;
    };
    std::vector<Range> ranges;  ///< neighbours of one group, together
  };

  OptimizerSection section_;
  std::vector<State> states_;
};

}  // namespace dujiang::train
