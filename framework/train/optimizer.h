#pragma once
// The optimizer over flat buckets: fp32 master weights and moments, these in fp32 or bf16, of the ranges this rank
// owns, the values in the compute dtype written on the way. In bf16 the value is the upper half of the master, and only
// the lower one is kept beside it. AdamW sweeps the ranges; Muon's matrices meet on owner ranks for their update.

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "framework/parallel/data_parallel.h"
#include "framework/parallel/mesh.h"
#include "framework/parallel/whole_matrices.h"
#include "framework/train/config.h"
#include "framework/train/muon.h"
#include "framework/train/safetensors_parts.h"

namespace dujiang::train {

/// Sets trainable and Group of every parameter: no decay for norms (rank 1), else the section's; with optimizer.name:
/// muon that rule for the matrices in `blocks`; then the first of the section's groups that matches the path.
/// UserError naming a group that matches nothing, or when nothing is trainable.
void assign_groups(std::span<nn::Parameter* const> parameters, std::span<nn::Module* const> blocks,
                   const OptimizerSection& section);

/// Why optimizer.moments can't be what it is; nothing where it can.
std::optional<std::string> moments_fault(const OptimizerSection& section);

/// Elements [first, first + tensor.count()) of the part of a parameter that is held here, of some state.
struct StateSlice {
  std::string name;  ///< of the whole state: "model.norm.weight.m"
  const nn::Parameter* parameter;
  std::int64_t first;
  Tensor tensor;  ///< [count], contiguous
  Tensor low{};   ///< where it holds the upper halves of f32: the lower ones (ops::split_f32)
};

class Optimizer {
 public:
  /// Allocates state for the buckets, which must outlive this as must the mesh. Moments are zero, masters uninitialised
  /// but for padding. UserError that names a moments_fault. Collective over the mesh.
  Optimizer(const parallel::DataParallel& data_parallel, const parallel::Mesh& mesh, const OptimizerSection& section);

  /// Has `fill` write the fp32 weights that this rank owns, a stretch at a time, named as the parameters; rounds them
  /// into the values and publishes these.
  void set_masters(const std::function<void(const StateSlice&)>& fill) const;
  /// Whether they are other than the values: the compute dtype isn't f32.
  bool has_masters() const { return has_masters_; }
  /// The values this rank owns, of the compute dtype.
  std::vector<StateSlice> values() const;
  /// What this rank owns of PARAMETER.master, where there are masters.
  std::vector<StateSlice> masters() const;
  /// What this rank owns of PARAMETER.m and .v, or with Muon PARAMETER.momentum.
  std::vector<StateSlice> moments() const;
  /// The suffixes of a parameter's states, whoever owns them, and the dtypes they are saved in.
  std::vector<std::pair<std::string, Dtype>> state_names(const nn::Parameter& parameter) const;

  /// The sum of the squares of the whole gradient, the same on all ranks; not finite when one of them is not.
  /// `exact`: the same bits for every layout (exact_sum.h). Collective over the mesh.
  double squared_norm(bool exact) const;
  /// The first parameter of this rank's share whose gradient isn't finite; null when there is none.
  const nn::Parameter* bad_gradient() const;
  /// Update number `step` (from 1), all gradients multiplied by grad_scale first. Collective with Muon.
  void update(std::int64_t step, double lr, double grad_scale);

 private:
  using Rule = nn::Group::Rule;
  struct Slice {
    const nn::Parameter* parameter;
    std::int64_t at, first, count;  ///< elements [at, at + count) of the owned range are [first, ...) of the part
    std::int64_t second_at;         ///< where those of `second` begin
  };
  struct Range {
    std::int64_t at, count;
    std::int64_t second_at;
    nn::Group group;
  };
  struct State {
    parallel::FlatBucket* bucket;
    Tensor master;              ///< [owned count]: f32; in bf16 u16, the lower halves
    Tensor first;               ///< AdamW's m, Muon's momentum, [owned count]
    Tensor second;              ///< AdamW's v, of its ranges alone
    std::vector<Slice> slices;  ///< the parameters in the owned range
    std::vector<Range> ranges;  ///< neighbours of one group, together
    bool all_at_once = true;    ///< no Muon, so that values are final after the sweep
  };
  void divide(State& state) const;
  void sweep(const State& state, std::int64_t step, double lr, double grad_scale) const;
  MuonStep muon_step(double grad_scale) const;
  void update_matrices(double lr, double grad_scale) const;
  /// The gradients this rank brings into sums over the mesh: each element of the model on one rank of tp.
  std::vector<Tensor> counted_gradients() const;
  /// Elements of the masters in f32: these themselves, or in bf16 a copy, which write_masters() takes back. It rounds
  /// them into the values.
  Tensor read_masters(const State& state, std::int64_t at, std::int64_t count) const;
  void write_masters(const State& state, std::int64_t at, const Tensor& masters) const;
  template <class Get>
  void append(std::vector<StateSlice>& to, const char* suffix, Get&& get) const;

  OptimizerSection section_;
  const parallel::Mesh& mesh_;
  bool sharded_;                                       ///< over dp
  bool has_masters_;                                   ///< apart from the values
  std::vector<State> states_;                          ///< by bucket
  std::unique_ptr<parallel::WholeMatrices> matrices_;  ///< Muon's; null without
};

}  // namespace dujiang::train
