// Every layout gives the same model: ranks as threads, against one rank alone.

#include <boost/test/unit_test.hpp>

#include "tests/framework/layout_runs.h"
#include "tests/support/views.h"

using namespace dujiang;
using namespace dujiang::test;
using train::Precision;

namespace {

constexpr std::int64_t vocabulary = 50, length = 16, sequences = 8;

Course run(const models::ModelConfig& config, const LayoutCase& layout, Precision precision, int steps,
           bool strict = false) {
  return follow({.model = config,
                 .batches = markov_batches(steps, sequences, length, config.vocab_size),
                 .precision = precision,
                 .strict = strict},
                layout);
}

void check_equal_to_rounding(const models::ModelConfig& config, const std::vector<LayoutCase>& chosen, int steps) {
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
  check_equal_to_rounding(tiny_model(vocabulary), layout_matrix(), 6);
}

BOOST_AUTO_TEST_CASE(strict_mode_gives_the_same_bits_on_every_layout) {
  using train::Recompute;
  const auto config = tiny_model(vocabulary);
  for (const auto precision : {Precision::fp32, Precision::bf16}) {
    const auto alone = run(config, {"alone", 1, {}, sequences}, precision, 4, true);
    auto cases = layout_matrix();
    std::erase_if(cases, [](const LayoutCase& c) { return c.parallel.sequence; });
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
