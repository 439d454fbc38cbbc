#pragma once
// Tensor and sequence parallelism: a plan applied to a model over the ranks of the tensor axis.

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "framework/autograd/slices.h"
#include "framework/parallel/plan.h"

namespace dujiang::parallel {

struct TensorParallelOptions {
  bool sequence = false;  ///< norms and residuals hold rows of their own on each rank
  int strict_ways = 0;    ///< above 0: strict mode, sums over cut axes in this many slices (README.md)
};

/// Every reason why the plan doesn't fit `ranks`, each naming the path, what must be divided and the numbers of ranks
/// that would do; empty when it fits.
std::vector<std::string> plan_faults(nn::Module& model, const Plan& plan, int ranks,
                                     const TensorParallelOptions& options);

class TensorParallel {
 public:
  /// Cuts the parameters (before they have memory) and wraps the modules. Collective over `ranks`, which must outlive
  /// the model. UserError with the plan's faults.
  TensorParallel(nn::Module& model, const Plan& plan, comm::Communicator& ranks, const TensorParallelOptions& options);

  comm::Communicator& ranks() const { return ranks_; }
  /// Adds up the gradients that are partial, of those among `parameters`; the others stay.
  void complete_gradients(std::span<nn::Parameter* const> parameters) const;

 private:
  void cut(nn::Parameter& parameter, const ParameterRule& rule);
  void wrap(nn::Module& module, ModuleRule::Role role);
  void slice(nn::Module& module, const std::map<const nn::Parameter*, const ParameterRule*>& rules);
  /// Of an axis that `ways` slices make up over all ranks.
  fn::Slices slices_of(std::int64_t ways, bool counts) const;

  comm::Communicator& ranks_;
  TensorParallelOptions options_;
  std::unique_ptr<comm::Communicator> copies_;  ///< the ranks that hold the same key and value heads; null: none do
};

}  // namespace dujiang::parallel
