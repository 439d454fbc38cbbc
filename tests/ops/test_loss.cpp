#include <boost/test/unit_test.hpp>

#include <cmath>

#include "framework/base/threads.h"
#include "ops/loss.h"
#include "ops/reference/access.h"
#include "ops/reference/loss.h"
#include "tests/support/draw.h"
#include "tests/support/views.h"

using namespace dujiang;
using namespace dujiang::test;
namespace reference = ops::reference;

namespace {

Stream cpu{Device{}};

struct Problem {
  Problem(Dtype dtype, std::int64_t n, std::int64_t v, std::int64_t columns, double deviation, Layout layout)
      : valid(v),
        logits(random(dtype, {n, columns}, 1, layout, deviation)),
        labels(random_integers({n}, 2, 0, v, layout == Layout::padded ? Layout::transposed : layout)),
        weight(random(Dtype::f32, {n}, 3, Layout::contiguous)),
        loss(empty(Dtype::f32, {n}, layout == Layout::padded ? Layout::transposed : layout)) {
    // Every fifth row, from the fourth on, is ignored.
    for (std::int64_t i = 3; i < n; i += 5) reference::set(labels, {i}, -100);
  }
  void run(bool gradient = true) const {
    ops::softmax_cross_entropy(cpu, logits, labels, weight, valid, grad_scale, gradient, loss);
  }

  std::int64_t valid;
  Array logits, labels, weight, loss;
  float grad_scale = 0.37f;
};

void check(Dtype dtype, std::int64_t n, std::int64_t v, std::int64_t columns, double deviation = 2,
           Layout layout = Layout::contiguous) {
  BOOST_TEST_CONTEXT(name_of(dtype) << " n " << n << " v " << v << " of " << columns << " deviation " << deviation) {
    const Problem p(dtype, n, v, columns, deviation, layout);
    const Array gradient = clone(p.logits, Dtype::f64), loss = empty(Dtype::f64, {n});
    reference::softmax_cross_entropy(gradient, p.labels, p.weight, v, p.grad_scale, true, loss);
    const Array before = clone(p.logits);
    p.run(false);
    BOOST_TEST(same_bits(before, p.logits));

    // f32 throughout. The exponent x - max (below 12 deviations) errs by a roundoff of it, by that of log2 e and by
    // that of a maximum, exp2 by 4; each of the 4 lanes, or more, sums at most v / 4 terms.
    const double exponent = 3 * 12 * deviation + 4;
    const double relative = roundoff(Dtype::f32) * (exponent + static_cast<double>(v) / 4 + 8);
    Bound of_loss{4 * roundoff(Dtype::f32)};
    of_loss.own = [&](std::size_t i) {
      return std::abs(reference::get(p.weight, {static_cast<std::int64_t>(i)})) *
             (relative + 16 * deviation * roundoff(Dtype::f32));
    };
    check_close(p.loss, loss, of_loss, "loss");
    p.run(true);
    check_close(p.loss, loss, of_loss, "loss");
    // One rounding of the result besides; p - 1 at the label cancels.
    Bound of_gradient = rounding(dtype);
    of_gradient.relative += 2 * relative;
    of_gradient.absolute += 0x1p-120;  // exp2 flushes what is below
    of_gradient.own = [&](std::size_t i) {
      const auto row = static_cast<std::int64_t>(i) / columns, column = static_cast<std::int64_t>(i) % columns;
      return column == static_cast<std::int64_t>(reference::get(p.labels, {row}))
                 ? 2 * relative * p.grad_scale * std::abs(reference::get(p.weight, {row}))
                 : 0.0;
    };
    check_close(p.logits, gradient, of_gradient, "gradient");
  }
}

}  // namespace

BOOST_AUTO_TEST_CASE(loss_and_gradient_match_the_reference) {
  for (const Dtype dtype : compute_dtypes) {
    for (const std::int64_t n : {0, 1, 17})
      for (const std::int64_t v : {1, 2, 15, 16, 17, 100, 1023, 1024, 1025, 2500}) check(dtype, n, v, v);
    for (const auto& [n, v, padding, layout] : and_drawn<4>({}, 6, 20, {20, 3000, 70, 2}))
      check(dtype, n, v, v + padding - 1, 2, layout == 1 ? Layout::contiguous : Layout::padded);
    check(dtype, 2, 40000, 40000);
  }
}

namespace {

/// A problem cut into slices of columns, those beyond the logits' own being padding.
struct Sliced {
  Sliced(const Problem& whole, std::int64_t count, std::int64_t width)
      : whole(whole),
        width(width),
        statistics(empty(Dtype::f32, {count, 3, whole.labels.view.shape[0]})),
        total(empty(Dtype::f32, {3, whole.labels.view.shape[0]})) {
    const Dtype dtype = whole.logits.view.dtype;
    const std::int64_t n = whole.labels.view.shape[0], columns = whole.logits.view.shape[1];
    for (std::int64_t s = 0; s < count; ++s) {
      logits.push_back(constant(dtype, {n, width}, NAN));  // padding, of whatever value
      for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t j = 0; j < std::min(width, columns - s * width); ++j)
          reference::set(logits.back(), {i, j}, reference::get(whole.logits, {i, s * width + j}));
    }
  }
  View statistics_of(std::size_t s) const {
    return statistics.view.narrowed(0, static_cast<std::int64_t>(s), 1).reshaped({3, whole.labels.view.shape[0]});
  }
  void run() const {
    for (std::size_t s = 0; s < logits.size(); ++s)
      ops::softmax_statistics(cpu, logits[s], whole.labels, first(s), whole.valid, statistics_of(s));
    ops::combine_softmax_statistics(cpu, statistics, whole.labels, whole.weight, total, whole.loss);
    for (std::size_t s = 0; s < logits.size(); ++s)
      ops::softmax_gradient(cpu, logits[s], whole.labels, whole.weight, first(s), whole.valid, whole.grad_scale, total);
  }
  std::int64_t first(std::size_t s) const { return static_cast<std::int64_t>(s) * width; }

  const Problem& whole;
  std::int64_t width;
  std::vector<Array> logits;
  Array statistics, total;
};

}  // namespace

BOOST_AUTO_TEST_CASE(slices_have_the_statistics_loss_and_gradients_of_the_reference) {
  for (const Dtype dtype : compute_dtypes)
    for (const auto& [n, v, count, width] :
         {std::array{17, 1000, 4, 256}, {5, 100, 8, 16}, {1, 7, 1, 7}, {9, 33, 3, 11}, {0, 8, 2, 4}, {6, 1030, 8, 200}})
      for (const double deviation : {2.0, 100.0})
        BOOST_TEST_CONTEXT(name_of(dtype) << " n " << n << " v " << v << " slices " << count << " x " << width) {
          const Problem p(dtype, n, v, v, deviation, Layout::contiguous);
          const Sliced sliced(p, count, width);
          // Roundings as in check(), and those of the tree: an exponent's and a sum's for each of its at most 3 levels.
          const double relative = roundoff(Dtype::f32) * (4 * (3 * 12 * deviation + 4) + v / 4.0 + 16);
          for (std::size_t s = 0; s < sliced.logits.size(); ++s) {
            const Array expected = empty(Dtype::f64, {3, n});
            reference::softmax_statistics(sliced.logits[s], p.labels, sliced.first(s), v, expected);
            ops::softmax_statistics(cpu, sliced.logits[s], p.labels, sliced.first(s), v, sliced.statistics_of(s));
            check_close(sliced.statistics_of(s), expected, {relative}, "statistics");
          }
          const Array total = empty(Dtype::f64, {3, n}), loss = empty(Dtype::f64, {n});
          reference::combine_softmax_statistics(clone(sliced.statistics, Dtype::f64), p.labels, p.weight, total, loss);
          std::vector<Array> gradients;
          for (std::size_t s = 0; s < sliced.logits.size(); ++s) {
            gradients.push_back(clone(sliced.logits[s], Dtype::f64));
            reference::softmax_gradient(gradients.back(), p.labels, p.weight, sliced.first(s), v, p.grad_scale, total);
          }
          const Array whole = clone(p.logits, Dtype::f64), whole_loss = empty(Dtype::f64, {n});
          reference::softmax_cross_entropy(whole, p.labels, p.weight, v, p.grad_scale, true, whole_loss);
          sliced.run();
          check_close(sliced.total, total, {relative}, "total");
          const auto weight_of = [&](std::int64_t i) { return std::abs(reference::get(p.weight, {i})); };
          // The loss is a difference of numbers below 12 deviations.
          const Bound of_loss{4 * roundoff(Dtype::f32), 0, [&](std::size_t i) {
                                return weight_of(static_cast<std::int64_t>(i)) *
                                       (relative + 64 * deviation * roundoff(Dtype::f32));
                              }};
          check_close(p.loss, loss, of_loss, "loss");
          check_close(p.loss, whole_loss, of_loss, "loss of the whole");
          for (std::size_t s = 0; s < sliced.logits.size(); ++s) {
            Bound bound = rounding(dtype);
            bound.relative += 2 * relative;
            bound.absolute += 0x1p-120;
            bound.own = [&](std::size_t i) {  // p - 1 at the label cancels
              return 2 * relative * p.grad_scale * weight_of(static_cast<std::int64_t>(i) / width);
            };
            check_close(sliced.logits[s], gradients[s], bound, "gradient");
            for (std::int64_t i = 0; i < n; ++i)
              for (std::int64_t j = 0; j < width; ++j) {
                const std::int64_t column = sliced.first(s) + j;
                const double g = reference::get(sliced.logits[s], {i, j});
                if (column >= v || reference::get(p.labels, {i}) < 0) BOOST_TEST(g == 0.0);
                if (column < v)
                  BOOST_TEST(std::abs(g - reference::get(whole, {i, column})) <=
                             (2 * relative + 2 * roundoff(dtype)) * p.grad_scale * weight_of(i) + underflow(dtype));
              }
          }
        }
}

BOOST_AUTO_TEST_CASE(slices_show_nan_and_infinite_logits_and_ignore_what_has_no_label) {
  for (const double bad : {NAN, INFINITY}) {
    for (const std::int64_t at : {0, 37, 99}) {
      const Problem p(Dtype::bf16, 4, 100, 100, 1, Layout::contiguous);
      reference::set(p.logits, {0, at}, bad);
      for (std::int64_t j = 0; j < 100; ++j) reference::set(p.logits, {3, j}, NAN);  // its label is -100
      const Sliced sliced(p, 4, 32);
      sliced.run();
      BOOST_TEST(!std::isfinite(reference::get(p.loss, {0})));
      BOOST_TEST(std::isfinite(reference::get(p.loss, {1})));
      BOOST_TEST(reference::get(p.loss, {3}) == 0);
    }
  }
}

BOOST_AUTO_TEST_CASE(threads_change_no_bit_of_slices) {
  const int before = thread_count();
  const Problem a(Dtype::bf16, 37, 3000, 3000, 2, Layout::contiguous),
      b(Dtype::bf16, 37, 3000, 3000, 2, Layout::contiguous);
  const Sliced one(a, 4, 750), three(b, 4, 750);
  set_thread_count(1);
  one.run();
  set_thread_count(3);
  three.run();
  set_thread_count(before);
  BOOST_TEST(same_bits(a.loss, b.loss));
  for (std::size_t s = 0; s < 4; ++s) BOOST_TEST(same_bits(one.logits[s], three.logits[s]));
}

BOOST_AUTO_TEST_CASE(padding_columns_take_no_part) {
  for (const Dtype dtype : compute_dtypes) {
    check(dtype, 9, 97, 128);
    check(dtype, 9, 1, 128);
    const Problem p(dtype, 3, 20, 64, 1, Layout::contiguous);
    const Problem other(dtype, 3, 20, 64, 1, Layout::contiguous);
    for (std::int64_t i = 0; i < 3; ++i)
      for (std::int64_t j = 20; j < 64; ++j) reference::set(other.logits, {i, j}, NAN);
    p.run();
    other.run();
    BOOST_TEST(same_bits(p.logits, other.logits));
    BOOST_TEST(same_bits(p.loss, other.loss));
  }
}

BOOST_AUTO_TEST_CASE(strided_rows_labels_and_losses_are_read_and_written_in_place) {
  for (const Dtype dtype : compute_dtypes) check(dtype, 13, 333, 400, 2, Layout::padded);
}

BOOST_AUTO_TEST_CASE(logits_of_any_size_are_weighed_right) {
  for (const Dtype dtype : compute_dtypes)
    for (const double deviation : {1e-3, 20.0, 1000.0}) check(dtype, 5, 500, 500, deviation);
}

BOOST_AUTO_TEST_CASE(ignored_rows_have_no_loss_and_no_gradient_whatever_they_hold) {
  for (const Dtype dtype : compute_dtypes) {
    const Problem p(dtype, 4, 50, 50, 1, Layout::contiguous);
    for (std::int64_t j = 0; j < 50; ++j) reference::set(p.logits, {3, j}, NAN);
    p.run();
    BOOST_TEST(reference::get(p.loss, {3}) == 0);
    for (std::int64_t j = 0; j < 50; ++j) BOOST_TEST(reference::get(p.logits, {3, j}) == 0);
  }
}

BOOST_AUTO_TEST_CASE(nan_and_infinite_logits_show_in_the_loss) {
  for (const double bad : {NAN, INFINITY}) {
    for (const std::int64_t at : {0, 37, 99}) {
      const Problem p(Dtype::bf16, 1, 100, 100, 1, Layout::contiguous);
      reference::set(p.logits, {0, at}, bad);
      p.run(false);
      BOOST_TEST(!std::isfinite(reference::get(p.loss, {0})));
    }
  }
}

BOOST_AUTO_TEST_CASE(logits_of_minus_infinity_weigh_nothing) {
  const Problem p(Dtype::f32, 1, 100, 100, 1, Layout::contiguous);
  const auto label = static_cast<std::int64_t>(reference::get(p.labels, {0}));
  for (std::int64_t j = 0; j < 100; ++j)
    if (j != label) reference::set(p.logits, {0, j}, -INFINITY);
  // All that is left is the rounding of the label's own logit, below 4.
  const double allowed = 8 * roundoff(Dtype::f32) * std::abs(reference::get(p.weight, {0}));
  p.run();
  BOOST_TEST(std::abs(reference::get(p.loss, {0})) <= allowed);
  for (std::int64_t j = 0; j < 100; ++j)
    BOOST_TEST(std::abs(reference::get(p.logits, {0, j})) <= (j == label ? allowed : 0));
}

BOOST_AUTO_TEST_CASE(gradients_are_those_of_finite_differences) {
  const Problem p(Dtype::f32, 4, 9, 9, 1, Layout::contiguous);
  const Array logits = clone(p.logits, Dtype::f64), loss = empty(Dtype::f64, {4}),
              differences = empty(Dtype::f64, {4, 9});
  const auto objective = [&](std::int64_t row) {
    reference::softmax_cross_entropy(logits, p.labels, p.weight, 9, 1, false, loss);
    return p.grad_scale * reference::get(loss, {row});
  };
  constexpr double step = 1e-4;
  for (std::int64_t i = 0; i < 4; ++i) {
    for (std::int64_t j = 0; j < 9; ++j) {
      const double value = reference::get(logits, {i, j});
      reference::set(logits, {i, j}, value + step);
      const double above = objective(i);
      reference::set(logits, {i, j}, value - step);
      reference::set(differences, {i, j}, (above - objective(i)) / (2 * step));
      reference::set(logits, {i, j}, value);
    }
  }
  p.run();
  // f32 arithmetic on numbers below 4, and the central difference's step^2 / 6 times a third derivative below 4.
  check_close(p.logits, differences, {0, 64 * roundoff(Dtype::f32) + 1e-8}, "gradient");
}

BOOST_AUTO_TEST_CASE(threads_change_no_bit) {
  const int before = thread_count();
  const Problem a(Dtype::bf16, 37, 3000, 3000, 2, Layout::contiguous);
  const Problem b(Dtype::bf16, 37, 3000, 3000, 2, Layout::contiguous);
  set_thread_count(1);
  a.run();
  set_thread_count(3);
  b.run();
  set_thread_count(before);
  BOOST_TEST(same_bits(a.loss, b.loss));
  BOOST_TEST(same_bits(a.logits, b.logits));
}

BOOST_AUTO_TEST_CASE(wrong_arguments_throw) {
  const Problem p(Dtype::f32, 3, 8, 8, 1, Layout::contiguous);
  const auto run = [&](const View& logits, const View& labels, std::int64_t valid) {
    ops::softmax_cross_entropy(cpu, logits, labels, p.weight, valid, 1, true, p.loss);
  };
  BOOST_CHECK_NO_THROW(run(p.logits, p.labels, 8));
  BOOST_CHECK_THROW(run(p.logits, p.labels, 9), Error);
  BOOST_CHECK_THROW(run(p.logits, p.labels, 0), Error);
  BOOST_CHECK_THROW(run(p.logits, p.weight, 8), Error);
  BOOST_CHECK_THROW(run(clone(p.logits, Dtype::f32, Layout::transposed), p.labels, 8), Error);
  const Array statistics = empty(Dtype::f32, {3, 3}), slices = empty(Dtype::f32, {2, 3, 3});
  const auto statistics_of = [&](const View& logits, std::int64_t first, const View& out) {
    ops::softmax_statistics(cpu, logits, p.labels, first, 8, out);
  };
  BOOST_CHECK_NO_THROW(statistics_of(p.logits, 0, statistics));
  BOOST_CHECK_THROW(statistics_of(p.logits, -8, statistics), Error);
  BOOST_CHECK_THROW(statistics_of(p.logits, 0, slices), Error);
  BOOST_CHECK_THROW(ops::combine_softmax_statistics(cpu, statistics, p.labels, p.weight, statistics, p.loss), Error);
  BOOST_CHECK_THROW(ops::softmax_gradient(cpu, p.logits, p.labels, p.weight, 0, 8, 1, p.loss), Error);
  reference::set(p.labels, {1}, 8);
  BOOST_CHECK_THROW(run(p.logits, p.labels, 8), Error);
  BOOST_CHECK_THROW(statistics_of(p.logits, 0, statistics), Error);
}
