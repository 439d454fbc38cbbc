#pragma once
// The same training laid over ranks in different ways, and what must then be the same.

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tests/framework/batches.h"

namespace dujiang::test {

/// One way to lay a training over ranks.
struct LayoutCase {
  std::string name;
  int ranks = 1;
  train::ParallelSection parallel = {};
  std::int64_t micro_batch = 4;
  train::Recompute recompute = train::Recompute::elementwise;
  std::int64_t recompute_every = 1;
  int threads = 1;
};

/// What is trained, whatever the layout.
struct Lesson {
  models::ModelConfig model;
  std::vector<data::Batch> batches;  ///< global ones, of all steps
  train::Precision precision = train::Precision::fp32;
  train::OptimizerSection optimizer = adamw();
  bool strict = false;
  std::int64_t strict_ways = 4;
  std::function<void(train::TrainStep&)> prepare = {};  ///< sees the fresh model, on every rank
};

/// What training gives, on rank 0.
struct Course {
  std::vector<double> losses, norms;
  int skipped = 0;  ///< fp16 steps that overflowed; their norms are not kept
  std::map<std::string, std::vector<float>> weights, optimizer;
};

std::vector<data::Batch> markov_batches(int steps, std::int64_t sequences, std::int64_t length,
                                        std::int64_t vocabulary);

/// The sequences of a batch that a rank takes.
data::Batch part_of(const data::Batch& batch, const train::BatchShare& share);

train::StepOptions step_options_of(const Lesson& lesson, const LayoutCase& layout);

/// Collective over `world`, which has the layout's number of ranks. `after` sees the step when all is trained.
Course follow(const Lesson& lesson, const LayoutCase& layout, comm::Communicator& world,
              const std::function<void(train::TrainStep&)>& after = {});

/// The same with threads as ranks.
Course follow(const Lesson& lesson, const LayoutCase& layout);

/// The largest relative difference; 1 where the numbers of values differ.
double worst_ratio(const std::vector<double>& a, const std::vector<double>& b);

/// Norm of the difference over the norm of b; infinite where the numbers of values differ.
double distance(const std::vector<float>& a, const std::vector<float>& b);

/// The tensor that is farthest from its counterpart, and how far.
std::pair<std::string, double> farthest(const std::map<std::string, std::vector<float>>& a,
                                        const std::map<std::string, std::vector<float>>& b);

bool same_bits(const Course& a, const Course& b);

/// The matrix: every strategy, and what they make of one another, on 1, 2, 4 and 8 ranks. For models whose heads,
/// feed-forward and batch of 8 they divide.
const std::vector<LayoutCase>& layout_matrix();

}  // namespace dujiang::test
