// Every layout gives the same model: ranks as threads, against one rank alone.

#include <boost/test/unit_test.hpp>

#include "comm/host/thread_communicator.h"
#include "framework/base/threads.h"
#include "tests/framework/batches.h"
#include "tests/support/views.h"

using namespace dujiang;
using namespace dujiang::test;
using train::Precision;

namespace {

constexpr std::int64_t vocabulary = 50, length = 16, sequences = 8;

/// What a run gives.
struct Course {
  std::vector<double> losses, norms;
  std::map<std::string, std::vector<float>> weights;
};

struct Case {
  std::string name;
  int ranks = 1;
  train::ParallelSection parallel = {};
  std::int64_t micro_batch = 4;
  train::Recompute recompute = train::Recompute::none;
  std::int64_t recompute_every = 1;
  int threads = 1;
};

train::StepOptions options_of(const Case& layout, Precision precision, bool strict) {
  return {.optimizer = adamw(),
          .precision = precision,
          .parallel = layout.parallel,
          .recompute = layout.recompute,
          .recompute_every = layout.recompute_every,
          .strict = strict,
          .strict_ways = 4};
}

/// The sequences of a batch that a rank takes.
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

Course run(const models::ModelConfig& config, const Case& layout, Precision precision, int steps, bool strict = false) {
  Course course;
  comm::run_threads(layout.ranks, [&](comm::Communicator& world) {
    set_thread_count(layout.threads);
    models::Qwen3 model(config);
    train::TrainStep step(model, world, options_of(layout, precision, strict));
    step.initialise(5);
    const auto share = step.share_of(sequences);
    for (int s = 1; s <= steps; ++s) {
      const auto batch = markov_batch(sequences, length, config.vocab_size, static_cast<std::uint64_t>(s));
      const auto result = step.run(part_of(batch, share), layout.micro_batch, s, 3e-3);
      if (world.rank() != 0) continue;
      course.losses.push_back(result.loss);
      course.norms.push_back(result.grad_norm);
    }
    const auto weights = whole(step.weights(), world);
    if (world.rank() != 0) return;
    for (const auto& [name, tensor] : weights) course.weights[name] = tensor.floats();
  });
  return course;
}

double worst_ratio(const std::vector<double>& a, const std::vector<double>& b) {
  double worst = a.size() == b.size() ? 0 : 1;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) worst = std::max(worst, std::abs(a[i] / b[i] - 1));
  return worst;
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
    size += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(difference / size);
}

const std::vector<Case>& all_layouts() {
  using train::Recompute;
  static const std::vector<Case> all = {
      {"micro-batch 1", 1, {}, 1},
      {"micro-batch 3", 1, {}, 3},
      {"recompute attention", 1, {}, 4, Recompute::attention},
      {"recompute block", 1, {}, 4, Recompute::block},
      {"recompute every second block", 1, {}, 4, Recompute::block, 2},
      {"dp 2", 2, {}},
      {"dp 4", 4, {}, 2},
      {"dp 2, zero 1", 2, {.zero = 1}},
      {"dp 2, zero 2", 2, {.zero = 2}, 2},
      {"dp 2, zero 3", 2, {.zero = 3}, 2},
      {"dp 4, zero 1", 4, {.zero = 1}, 1},
      {"dp 4, zero 2", 4, {.zero = 2}, 1},
      {"dp 4, zero 3", 4, {.zero = 3}, 1},
      {"dp 2, zero 3, recompute block", 2, {.zero = 3}, 4, Recompute::block},
      {"tp 2", 2, {.tensor = 2}},
      {"tp 4", 4, {.tensor = 4}},
      {"tp 2, sequence", 2, {.tensor = 2, .sequence = true}},
      {"tp 4, sequence", 4, {.tensor = 4, .sequence = true}, 2},
      {"tp 2, recompute attention", 2, {.tensor = 2}, 4, Recompute::attention},
      {"tp 2, sequence, recompute block", 2, {.tensor = 2, .sequence = true}, 4, Recompute::block},
      {"dp 2 x tp 2", 4, {.tensor = 2}, 2},
      {"dp 2 x tp 2, zero 1, sequence", 4, {.tensor = 2, .sequence = true, .zero = 1}, 2},
      {"dp 2 x tp 2, zero 3", 4, {.tensor = 2, .zero = 3}, 2},
      {"dp 2 x tp 4, zero 2", 8, {.tensor = 4, .zero = 2}, 2},
  };
  return all;
}

void check_equal_to_rounding(const models::ModelConfig& config, const std::vector<Case>& chosen, int steps) {
  const auto alone = run(config, {"alone", 1, {}, sequences}, Precision::fp32, steps);
  for (const auto& layout : chosen) {
    const auto course = run(config, layout, Precision::fp32, steps);
    // Sums of some hundred terms in another order: 1e-7 of a loss; weights that follow are apart by as much of a step.
    BOOST_TEST(worst_ratio(course.losses, alone.losses) <= 1e-5,
               layout.name << ": losses " << worst_ratio(course.losses, alone.losses));
    BOOST_TEST(worst_ratio(course.norms, alone.norms) <= 1e-4,
               layout.name << ": norms " << worst_ratio(course.norms, alone.norms));
    for (const auto& [path, weights] : alone.weights) {
      const auto& ours = course.weights.at(path);
      BOOST_TEST_REQUIRE(ours.size() == weights.size());
      // Adam turns the rounding of a vanishing gradient into a part of a step (1e-2 of the weights' size each).
      BOOST_TEST(distance(ours, weights) <= 1e-3, layout.name << ": " << path << " " << distance(ours, weights));
    }
  }
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_layout_gives_the_same_curve_and_weights_in_fp32) {
  check_equal_to_rounding(tiny_model(vocabulary), all_layouts(), 6);
}

BOOST_AUTO_TEST_CASE(strict_mode_gives_the_same_bits_on_every_layout) {
  using train::Recompute;
  const auto config = tiny_model(vocabulary);
  for (const auto precision : {Precision::fp32, Precision::bf16}) {
    const auto alone = run(config, {"alone", 1, {}, sequences}, precision, 4, true);
    auto cases = all_layouts();
    std::erase_if(cases, [](const Case& c) { return c.parallel.sequence; });
    cases.push_back({"3 threads", 1, {}, 4, Recompute::none, 1, 3});
    cases.push_back({"dp 2 x tp 2, zero 1, 2 threads", 4, {.tensor = 2, .zero = 1}, 1, Recompute::block, 1, 2});
    for (const auto& layout : cases) {
      const auto course = run(config, layout, precision, 4, true);
      BOOST_TEST(course.losses == alone.losses, layout.name << " " << name_of(precision));
      BOOST_TEST(course.norms == alone.norms, layout.name << " " << name_of(precision));
      for (const auto& [path, weights] : alone.weights)
        BOOST_TEST((course.weights.at(path) == weights), layout.name << " " << name_of(precision) << ": " << path);
    }
    // The slices change the numbers themselves by rounding alone.
    const auto usual = run(config, {"alone", 1, {}, sequences}, precision, 4);
    BOOST_TEST(worst_ratio(usual.losses, alone.losses) <= (precision == Precision::fp32 ? 1e-6 : 5e-3));
  }
}

BOOST_AUTO_TEST_CASE(odd_shapes_and_untied_embeddings_fit_where_they_divide) {
  // A vocabulary of 51 rows over 2 and 4 ranks: padding; 6 heads by 2; 2 key heads by 4 ranks (in the matrix: too).
  auto config = tiny_model(51, false);
  config.num_attention_heads = 6;
  check_equal_to_rounding(config,
                          {{"tp 2", 2, {.tensor = 2}},
                           {"tp 2, sequence", 2, {.tensor = 2, .sequence = true}},
                           {"dp 2 x tp 2, zero 3", 4, {.tensor = 2, .zero = 3}, 2}},
                          4);
  auto strict = tiny_model(51, false);
  const auto alone = run(strict, {"alone"}, Precision::fp32, 3, true);
  const auto shared = run(strict, {"tp 4", 4, {.tensor = 4}}, Precision::fp32, 3, true);
  BOOST_TEST(alone.losses == shared.losses);
  BOOST_TEST((alone.weights == shared.weights));
}
