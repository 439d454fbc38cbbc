#include "tests/framework/layout_runs.h"

#include <algorithm>
#include <cmath>

#include "comm/host/thread_communicator.h"
#include "framework/base/threads.h"

namespace dujiang::test {

std::vector<data::Batch> markov_batches(int steps, std::int64_t sequences, std::int64_t length,
                                        std::int64_t vocabulary) {
  std::vector<data::Batch> batches;
  for (int s = 1; s <= steps; ++s)
    batches.push_back(markov_batch(sequences, length, vocabulary, static_cast<std::uint64_t>(s)));
  return batches;
}

data::Batch part_of(const data::Batch& batch, const train::BatchShare& share) {
  data::Batch part;
  for (std::int64_t i = 0; i < share.count; ++i) {
    const auto row = batch.slice(share.first + i * share.stride, 1);
    if (i == 0) part.segments.push_back(0);
    for (std::size_t k = 1; k < row.segments.size(); ++k)
      part.segments.push_back(static_cast<std::int32_t>(i * row.length) + row.segments[k]);
    const auto append = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
    append(part.tokens, row.tokens);
    append(part.labels, row.labels);
    append(part.loss_weight, row.loss_weight);
    append(part.positions, row.positions);
    part.weight_sum += row.weight_sum;
    part.length = row.length;
  }
  part.sequences = share.count;
  return part;
}

train::StepOptions step_options_of(const Lesson& lesson, const LayoutCase& layout) {
  return {.optimizer = lesson.optimizer,
          .precision = lesson.precision,
          .parallel = layout.parallel,
          .recompute = layout.recompute,
          .recompute_every = layout.recompute_every,
          .strict = lesson.strict,
          .strict_ways = lesson.strict_ways};
}

Course follow(const Lesson& lesson, const LayoutCase& layout, comm::Communicator& world,
              const std::function<void(train::TrainStep&)>& after) {
  set_thread_count(layout.threads);
  models::Qwen3 model(lesson.model);
  train::TrainStep step(model, world, step_options_of(lesson, layout));
  step.initialise(5);
  if (lesson.prepare) lesson.prepare(step);
  Course course;
  std::int64_t number = 0;
  for (const auto& batch : lesson.batches) {
    const auto share = step.share_of(batch.sequences);
    const auto result = step.run(part_of(batch, share), layout.micro_batch, ++number, lesson.optimizer.lr);
    course.losses.push_back(result.loss);
    course.skipped += result.skipped;
    if (!result.skipped) course.norms.push_back(result.grad_norm);
  }
  const auto keep = [](const std::vector<train::NamedTensor>& tensors, auto& to) {
    for (const auto& [name, tensor] : tensors) to[name] = tensor.floats();
  };
  keep(whole(step.weights(), world), course.weights);
  keep(whole(step.optimizer_state(), world), course.optimizer);
  if (after) after(step);
  return course;
}

Course follow(const Lesson& lesson, const LayoutCase& layout) {
  Course course;
  comm::run_threads(layout.ranks, [&](comm::Communicator& world) {
    auto ours = follow(lesson, layout, world);
    if (world.rank() == 0) course = std::move(ours);
  });
  return course;
}

double worst_ratio(const std::vector<double>& a, const std::vector<double>& b) {
  double worst = a.size() == b.size() ? 0 : 1;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) worst = std::max(worst, std::abs(a[i] / b[i] - 1));
  return worst;
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return HUGE_VAL;
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
    size += std::pow(static_cast<double>(b[i]), 2);
  }
  return difference == 0 ? 0 : std::sqrt(difference / size);
}

std::pair<std::string, double> farthest(const std::map<std::string, std::vector<float>>& a,
                                        const std::map<std::string, std::vector<float>>& b) {
  std::pair<std::string, double> worst{"the list of tensors", a.size() == b.size() ? 0 : HUGE_VAL};
  for (const auto& [name, values] : b) {
    const auto found = a.find(name);
    const double apart = found == a.end() ? HUGE_VAL : distance(found->second, values);
    if (!(apart <= worst.second)) worst = {name, apart};  // NaN is the worst
  }
  return worst;
}

bool same_bits(const Course& a, const Course& b) {
  return a.losses == b.losses && a.norms == b.norms && a.weights == b.weights && a.optimizer == b.optimizer;
}

const std::vector<LayoutCase>& layout_matrix() {
  using train::Recompute;
  static const std::vector<LayoutCase> all = {
      {"micro-batch 1", 1, {}, 1},
      {"micro-batch 2", 1, {}, 2},
      {"micro-batch 3", 1, {}, 3},  // the last one is smaller
      {"recompute nothing", 1, {}, 4, Recompute::none},
      {"recompute attention", 1, {}, 4, Recompute::attention},
      {"recompute block", 1, {}, 4, Recompute::block},
      {"recompute every second block", 1, {}, 4, Recompute::block, 2},
      {"dp 2", 2, {}},
      {"dp 2, micro-batch 3", 2, {}, 3},
      {"dp 2, zero 1", 2, {.zero = 1}, 1},
      {"dp 2, zero 2", 2, {.zero = 2}, 2},
      {"dp 2, zero 3", 2, {.zero = 3}, 2},
      {"dp 2, zero 3, recompute block", 2, {.zero = 3}, 4, Recompute::block},
      {"tp 2", 2, {.tensor = 2}},
      {"tp 2, micro-batch 1, recompute attention", 2, {.tensor = 2}, 1, Recompute::attention},
      {"tp 2, sequence", 2, {.tensor = 2, .sequence = true}},
      {"tp 2, sequence, recompute block", 2, {.tensor = 2, .sequence = true}, 2, Recompute::block},
      {"dp 4", 4, {}, 2},
      {"dp 4, zero 1", 4, {.zero = 1}, 1},
      {"dp 4, zero 2", 4, {.zero = 2}, 1},
      {"dp 4, zero 3", 4, {.zero = 3}, 1},
      {"dp 4, zero 3, recompute every second block", 4, {.zero = 3}, 2, Recompute::block, 2},
      {"tp 4", 4, {.tensor = 4}},
      {"tp 4, sequence", 4, {.tensor = 4, .sequence = true}, 2},
      {"dp 2 x tp 2", 4, {.tensor = 2}, 2},
      {"dp 2 x tp 2, zero 1, sequence", 4, {.tensor = 2, .sequence = true, .zero = 1}, 2},
      {"dp 2 x tp 2, zero 2, recompute attention", 4, {.tensor = 2, .zero = 2}, 2, Recompute::attention},
      {"dp 2 x tp 2, zero 3", 4, {.tensor = 2, .zero = 3}, 2},
      {"dp 2 x tp 2, zero 3, sequence, recompute block",
       4,
       {.tensor = 2, .sequence = true, .zero = 3},
       2,
       Recompute::block},
      {"dp 4 x tp 2, zero 3", 8, {.tensor = 2, .zero = 3}, 1},
      {"dp 2 x tp 4, zero 2", 8, {.tensor = 4, .zero = 2}, 2},
  };
  return all;
}

}  // namespace dujiang::test
