#pragma once
// A training run: from a config to checkpoints, metrics and progress.

#include <memory>

#include "comm/communicator.h"
#include "framework/train/config.h"

namespace dujiang::train {

struct TrainOptions {
  bool resume = false;  ///< go on from the newest complete checkpoint of the run directory, if there is one
};

struct TrainOutcome {
  std::int64_t step = 0;             ///< steps done in all
  double loss = 0;                   ///< of the last step
  bool stopped = false;              ///< ended early by a signal, with a checkpoint saved
  std::filesystem::path checkpoint;  ///< the last one saved
};

/// Runs the experiment on all ranks of `communicator` (collective). The run directory receives config.yaml (resolved),
/// environment.json, metrics.jsonl and checkpoints/. Without `resume`, a run directory that already holds checkpoints
/// is refused. UserErrors before the first step: tokenizer and dataset that do not belong together, a global batch that
/// the ranks do not divide, a checkpoint of another model, data or layout.
TrainOutcome train(const Config& config, const TrainOptions& options, comm::Communicator& communicator);

}  // namespace dujiang::train
