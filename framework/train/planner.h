#pragma once
// A run before it runs: every layout is rehearsed (framework/base/rehearsal.h) with the code that would train, for one
// rank, and what it would take is read off.

#include <string>
#include <vector>

#include "framework/train/config.h"
#include "framework/train/device_figures.h"

namespace dujiang::train {

/// A way to lay a training step over ranks; data parallelism takes what `parallel.tensor` leaves.
struct PlannedLayout {
  ParallelSection parallel;
  Recompute recompute = Recompute::elementwise;
  std::int64_t recompute_every = 1;
  bool operator==(const PlannedLayout&) const;
  /// "tensor 2 + sequence, data 4, ZeRO 1, recompute block"
  std::string str(int ranks) const;
};

/// What the ranks of an axis move with one operation in a step; bytes as comm::OpStats counts them.
struct Traffic {
  std::string axis;  ///< "dp", "tp", "world", or the name of another group
  std::string operation;
  int ranks = 1;
  std::uint64_t calls = 0, bytes = 0;
  double seconds = 0, exposed_seconds = 0;
};

/// Of one rank and one step.
struct Forecast {
  PlannedLayout layout;
  int data = 1;                    ///< ranks along dp
  std::int64_t micro_batches = 0;  ///< of a rank in a step
  std::string refusal;             ///< why the layout is impossible; then the rest says nothing
  MemoryBytes peak;                ///< when most is in use, by what it is for
  double memory = 0;               ///< what there is
  bool fits = false;
  std::vector<Traffic> traffic;
  double flops = 0;
  double products_seconds = 0, attention_seconds = 0, sweeps_seconds = 0, exposed_seconds = 0, step_seconds = 0;
  double tokens_per_second = 0;  ///< of all ranks together
  double utilisation = 0;        ///< model FLOPs (without those computed again) over the peak
  std::string limit;             ///< "products", "attention", "memory bandwidth", "communication over dp", ...
};

/// Rehearses one step of `config` (its model, batch, optimizer, precision and strictness) in this layout.
Forecast rehearse_step(const Config& config, const PlannedLayout& layout, int ranks, const DeviceFigures& device);

/// The layouts worth a rehearsal: powers of two along tp inside a node, sequence parallelism, ZeRO stages, recompute.
std::vector<PlannedLayout> layouts_for(const Config& config, int ranks, const DeviceFigures& device);

struct TrainingPlan {
  std::vector<Forecast> ranked;     ///< those that fit, the fastest first; among equals the simpler one
  std::vector<Forecast> too_large;  ///< the smallest first
  std::vector<Forecast> refused;
  std::string reason;  ///< for the first, or why none fits
};
/// A layout with more recomputation than one that fits isn't rehearsed unless `all`.
TrainingPlan plan_training(const Config& config, int ranks, const DeviceFigures& device, bool all);

}  // namespace dujiang::train
