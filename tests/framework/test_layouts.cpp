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
           bool strict = false, Dtype moments = Dtype::f32) {
  Lesson lesson{.model = config,
                .batches = markov_batches(steps, sequences, length, config.vocab_size),
                .precision = precision,
                .strict = strict};
  lesson.optimizer.moments = moments;
  return follow(lesson, layout);
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
    // Adam makes a whole step of a gradient however small: where one is a difference of roundings, its weight moves by
    // chance.
    const auto [path, apart] = farthest(course.weights, alone.weights);
    BOOST_TEST(apart <= 1e-4, layout.name << ": " << path << " " << apart);
  }
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_layout_gives_the_same_curve_and_weights_in_fp32) {
  check_equal_to_rounding(tiny_model(vocabulary), layout_matrix(), 6);
}

BOOST_AUTO_TEST_CASE(strict_mode_gives_the_same_bits_on_every_layout) {
  using train::Recompute;
  const auto config = tiny_model(vocabulary);
  for (const auto& [precision, moments] :
       {std::pair(Precision::fp32, Dtype::f32), {Precision::bf16, Dtype::f32}, {Precision::bf16, Dtype::bf16}}) {
    const auto alone = run(config, {"alone", 1, {}, sequences}, precision, 4, true, moments);
    auto cases = layout_matrix();
    std::erase_if(cases, [](const LayoutCase& c) { return c.parallel.sequence; });
    cases.push_back({"3 threads", 1, {}, 4, Recompute::none, 1, 3});
    cases.push_back({"dp 2 x tp 2, zero 1, 2 threads", 4, {.tensor = 2, .zero = 1}, 1, Recompute::block, 1, 2});
    for (const auto& layout : cases) {
      const auto course = run(config, layout, precision, 4, true, moments);
      BOOST_TEST(same_bits(course, alone),
                 layout.name << " " << name_of(precision) << ", moments " << name_of(moments));
    }
    // The slices change the numbers themselves by rounding alone.
    const auto usual = run(config, {"alone", 1, {}, sequences}, precision, 4, false, moments);
    BOOST_TEST(worst_ratio(usual.losses, alone.losses) <= (precision == Precision::fp32 ? 1e-6 : 5e-3));
  }
}
