#include "ops/norm.h"

#include <boost/test/unit_test.hpp>

#include "framework/base/threads.h"
#include "ops/reference/norm.h"
#include "tests/support/draw.h"
#include "tests/support/views.h"

using namespace dujiang;
using namespace dujiang::test;

namespace {

Stream cpu{Device{}};
constexpr float eps = 1e-6f;
const double u = roundoff(Dtype::f32);
const Layout row_layouts[] = {Layout::contiguous, Layout::padded};
const auto row_sizes = and_drawn<2>({{0, 8}, {1, 1}, {3, 5}, {2, 16}, {7, 33}, {201, 70}}, 1, 8, {60, 300});  // n, d
const auto head_sizes = [] {
  auto sizes = and_drawn<3>({{0, 2, 4}, {1, 1, 1}, {3, 2, 3}, {5, 3, 16}, {2, 2, 35}, {150, 2, 17}}, 2, 8, {40, 5, 70});
  for (auto& size : sizes) size[2] *= 2;  // d is even
  return sizes;
}();

struct ThreeThreads {
  ThreeThreads() { set_thread_count(3); }
};
BOOST_TEST_GLOBAL_FIXTURE(ThreeThreads);

// A sum of d positive squares in f32 is off by at most d roundoffs (relative), its root by half of that; two
// divisions, a root and two products add five.
double norm_roundoffs(std::int64_t d) {
  return (static_cast<double>(d) / 2 + 6) * u;
}

/// Per element, the magnitudes of the terms of a norm's gradient: r * (|g| + |xhat| * mean |g * xhat|).
std::vector<double> gradient_magnitudes(const std::vector<double>& dy, const std::vector<double>& x,
                                        const std::vector<double>& weight, const std::vector<double>& rstd) {
  const std::size_t d = weight.size();
  std::vector<double> magnitude(dy.size());
  for (std::size_t row = 0; row < rstd.size(); ++row) {
    double mean = 0;
    for (std::size_t i = 0; i < d; ++i)
      mean += std::abs(dy[row * d + i] * weight[i] * x[row * d + i] * rstd[row]) / static_cast<double>(d);
    for (std::size_t i = 0; i < d; ++i)
      magnitude[row * d + i] =
          rstd[row] * (std::abs(dy[row * d + i] * weight[i]) + std::abs(x[row * d + i]) * rstd[row] * mean);
  }
  return magnitude;
}
/// Per column, the sum over rows of |dy * xhat|.
std::vector<double> weight_magnitudes(const std::vector<double>& dy, const std::vector<double>& x, std::size_t d,
                                      const std::vector<double>& rstd) {
  std::vector<double> magnitude(d);
  for (std::size_t i = 0; i < dy.size(); ++i) magnitude[i % d] += std::abs(dy[i] * x[i] * rstd[i / d]);
  return magnitude;
}

Array angles(std::int64_t positions, std::int64_t d, Layout layout) {
  const Array table = empty(Dtype::f32, {positions, d}, layout);
  std::vector<double> v;
  for (std::int64_t p = 0; p < positions; ++p)
    for (std::int64_t i = 0; i < d; ++i) {
      const double angle = static_cast<double>(p) * std::pow(1e4, -2.0 * static_cast<double>(i % (d / 2)) / d);
      v.push_back(i < d / 2 ? std::cos(angle) : std::sin(angle));
    }
  assign(table, v);
  return table;
}

/// The larger of each pair's magnitudes, doubled: what a rotation's two terms may add up to.
std::vector<double> pair_magnitudes(const std::vector<double>& z, std::size_t d) {
  std::vector<double> magnitude(z.size());
  for (std::size_t i = 0; i < z.size(); ++i) {
    const std::size_t other = i % d < d / 2 ? i + d / 2 : i - d / 2;
    magnitude[i] = std::abs(z[i]) + std::abs(z[other]);
  }
  return magnitude;
}

}  // namespace

BOOST_AUTO_TEST_CASE(rms_norm_matches_the_reference_and_may_work_in_place) {
  for (Dtype dtype : compute_dtypes)
    for (auto [n, d] : row_sizes)
      for (Layout layout : row_layouts)
        for (bool in_place : {false, true}) {
          const Array x = random(dtype, {n, d}, 1, layout), weight = random(dtype, {d}, 2);
          const Array y = in_place ? x : empty(dtype, {n, d}), rstd = empty(Dtype::f32, {n});
          const Array y2 = empty(Dtype::f64, {n, d}), rstd2 = empty(Dtype::f64, {n});
          ops::reference::rms_norm(cpu, x, weight, eps, y2, rstd2);
          ops::rms_norm(cpu, x, weight, eps, y, rstd);
          Bound bound = rounding(dtype);
          bound.relative += norm_roundoffs(d);
          check_close(y, y2, bound, "rms_norm");
          check_close(rstd, rstd2, {norm_roundoffs(d), 0}, "rstd");
        }
}

BOOST_AUTO_TEST_CASE(add_rms_norm_is_the_norm_of_the_rounded_sum) {
  for (Dtype dtype : compute_dtypes)
    for (auto [n, d] : row_sizes)
      for (Layout layout : row_layouts)
        for (int alias : {0, 1, 2}) {  // sum apart, in x, in residual
          const Array x = random(dtype, {n, d}, 1, layout), residual = random(dtype, {n, d}, 3, layout);
          const Array weight = random(dtype, {d}, 2), y = empty(dtype, {n, d}), rstd = empty(Dtype::f32, {n});
          const Array sum = alias == 0 ? empty(dtype, {n, d}) : alias == 1 ? x : residual;
          const Array sum2 = empty(dtype, {n, d}), y2 = empty(Dtype::f64, {n, d}), rstd2 = empty(Dtype::f64, {n});
          ops::reference::add_rms_norm(cpu, x, residual, weight, eps, sum2, y2, rstd2);
          ops::add_rms_norm(cpu, x, residual, weight, eps, sum, y, rstd);
          BOOST_TEST(same_bits(sum, sum2));
          Bound bound = rounding(dtype);
          bound.relative += norm_roundoffs(d);
          check_close(y, y2, bound, "add_rms_norm");
          check_close(rstd, rstd2, {norm_roundoffs(d), 0}, "rstd");
        }
}

BOOST_AUTO_TEST_CASE(rms_norm_backward_matches_the_reference) {
  for (Dtype dtype : compute_dtypes)
    for (auto [n, d] : row_sizes)
      for (Layout layout : row_layouts)
        for (int alias : {0, 1, 2, 3})  // no addend; addend apart; dx = addend; dx = dy, no dweight
          for (bool accumulate : {false, true}) {
            const Array x = random(dtype, {n, d}, 1, layout), dy = random(dtype, {n, d}, 2, layout);
            const Array weight = random(dtype, {d}, 3), addend = random(dtype, {n, d}, 4, layout);
            const Array rstd = empty(Dtype::f32, {n}), unused = empty(dtype, {n, d});
            ops::reference::rms_norm(cpu, x, weight, eps, unused, rstd);
            const Array dweight = accumulate ? random(Dtype::f32, {d}, 5) : empty(Dtype::f32, {d});
            const Array dx2 = empty(Dtype::f64, {n, d}), dweight2 = clone(dweight, Dtype::f64);
            const View extra = alias == 1 || alias == 2 ? addend.view : View{};
            ops::reference::rms_norm_backward(cpu, dy, x, weight, rstd, extra, dx2, dweight2, accumulate);
            const auto magnitude = gradient_magnitudes(values(dy), values(x), values(weight), values(rstd));
            const auto columns = weight_magnitudes(values(dy), values(x), static_cast<std::size_t>(d), values(rstd));
            const auto added = values(addend), start = values(dweight);
            const Array dx = alias == 2 ? addend : alias == 3 ? dy : empty(dtype, {n, d}, layout);
            ops::rms_norm_backward(cpu, dy, x, weight, rstd, extra, dx, alias == 3 ? View{} : dweight.view, accumulate);
            // A mean of d terms (d + 4 roundings), five operations around it, one for the addend.
            Bound bound = rounding(dtype);
            bound.own = [&](std::size_t i) {
              return (static_cast<double>(d) + 10) * u * magnitude[i] + 2 * u * std::abs(added[i]);
            };
            check_close(dx, dx2, bound, "dx");
            if (alias == 3) continue;
            // A sum of n terms of two products each, and what was there.
            bound = {};
            bound.own = [&](std::size_t i) {
              return (static_cast<double>(n) + 4) * u * (columns[i] + (accumulate ? std::abs(start[i]) : 0));
            };
            check_close(dweight, dweight2, bound, "dweight");
          }
}

BOOST_AUTO_TEST_CASE(weight_gradients_depend_on_no_thread_count) {
  const std::int64_t n = 1000, d = 70;
  const Array x = random(Dtype::bf16, {n, d}, 1), dy = random(Dtype::bf16, {n, d}, 2),
              weight = random(Dtype::bf16, {d}, 3), rstd = constant(Dtype::f32, {n}, 1),
              dx = empty(Dtype::bf16, {n, d});
  const Array first = empty(Dtype::f32, {d}), second = empty(Dtype::f32, {d});
  ops::rms_norm_backward(cpu, dy, x, weight, rstd, {}, dx, first, false);
  set_thread_count(1);
  ops::rms_norm_backward(cpu, dy, x, weight, rstd, {}, dx, second, false);
  set_thread_count(3);
  BOOST_TEST(same_bits(first, second));
}

BOOST_AUTO_TEST_CASE(norm_rope_matches_the_reference_with_and_without_a_norm) {
  for (Dtype dtype : compute_dtypes)
    for (auto [n, heads, d] : head_sizes)
      for (Layout layout : row_layouts)
        for (bool norm : {false, true})
          for (bool in_place : {false, true}) {
            const Array x = random(dtype, {n, heads, d}, 1, layout), table = angles(9, d, layout);
            const Array positions = random_integers({n}, 2, 0, 9, Layout::transposed);
            const Array w = random(dtype, {d}, 3), y = in_place ? x : empty(dtype, {n, heads, d});
            const View weight = norm ? w.view : View{};
            const Array rstd = empty(Dtype::f32, {n, heads});
            const Array y2 = empty(Dtype::f64, {n, heads, d}), rstd2 = empty(Dtype::f64, {n, heads});
            ops::reference::norm_rope(cpu, x, weight, eps, table, positions, y2, rstd2);
            auto z = values(x);
            const auto r = values(rstd2), scale = values(w);
            const auto width = static_cast<std::size_t>(d);
            if (norm)
              for (std::size_t i = 0; i < z.size(); ++i) z[i] *= r[i / width] * scale[i % width];
            const auto magnitude = pair_magnitudes(z, width);
            ops::norm_rope(cpu, x, weight, eps, table, positions, y, rstd);
            // The norm's roundings, then two products and a sum whose terms may cancel.
            Bound bound = rounding(dtype);
            bound.own = [&](std::size_t i) { return (norm_roundoffs(d) + 3 * u) * magnitude[i]; };
            check_close(y, y2, bound, "norm_rope");
            if (norm) check_close(rstd, rstd2, {norm_roundoffs(d), 0}, "rstd");
          }
}

BOOST_AUTO_TEST_CASE(norm_rope_backward_matches_the_reference) {
  for (Dtype dtype : compute_dtypes)
    for (auto [n, heads, d] : head_sizes)
      for (Layout layout : row_layouts)
        for (bool norm : {false, true})
          for (bool accumulate : {false, true}) {
            const Array x = random(dtype, {n, heads, d}, 1, layout), table = angles(9, d, layout);
            const Array dy = random(dtype, {n, heads, d}, 4, layout), w = random(dtype, {d}, 3);
            const Array positions = random_integers({n}, 2, 0, 9), rstd = empty(Dtype::f32, {n, heads});
            const View weight = norm ? w.view : View{};
            const Array unused = empty(dtype, {n, heads, d}), one = constant(Dtype::f64, {d}, 1);
            ops::reference::norm_rope(cpu, x, w, eps, table, positions, unused, rstd);
            const Array dweight = accumulate ? random(Dtype::f32, {d}, 5) : empty(Dtype::f32, {d});
            const Array dx2 = empty(Dtype::f64, {n, heads, d}), dweight2 = clone(dweight, Dtype::f64);
            const View given = norm ? dweight.view : View{}, given2 = norm ? dweight2.view : View{};
            ops::reference::norm_rope_backward(cpu, dy, x, weight, rstd, table, positions, dx2, given2, accumulate);
            const auto width = static_cast<std::size_t>(d);
            const auto turned = pair_magnitudes(values(dy), width);
            const auto magnitude = norm ? gradient_magnitudes(turned, values(x), values(w), values(rstd)) : turned;
            const auto columns = weight_magnitudes(turned, values(x), width, values(rstd));
            const auto start = values(dweight);
            const Array dx = accumulate ? dy : empty(dtype, {n, heads, d});  // in place in one of the cases
            ops::norm_rope_backward(cpu, dy, x, weight, rstd, table, positions, dx, given, accumulate);
            // As rms_norm_backward, on inputs that a rotation (three roundings) has made.
            Bound bound = rounding(dtype);
            bound.own = [&](std::size_t i) { return (static_cast<double>(d) + 13) * u * magnitude[i]; };
            check_close(dx, dx2, bound, "dx");
            if (!norm) continue;
            bound = {};
            bound.own = [&](std::size_t i) {
              return (static_cast<double>(n * heads) + 7) * u * (columns[i] + (accumulate ? std::abs(start[i]) : 0));
            };
            check_close(dweight, dweight2, bound, "dweight");
          }
}

BOOST_AUTO_TEST_CASE(slices_of_one_projection_are_turned_where_they_lie) {
  const Array qkv = random(Dtype::bf16, {6, 5, 8}, 1), positions = random_integers({6}, 2, 0, 9);
  const Array weight = random(Dtype::bf16, {8}, 3), rstd = empty(Dtype::f32, {6, 3}), table = angles(9, 8, {});
  const View keys = qkv.view.narrowed(1, 2, 3);
  const Array copy = clone(keys), y = empty(Dtype::bf16, {6, 3, 8}), before = clone(qkv);
  ops::norm_rope(cpu, copy, weight, eps, table, positions, y, rstd);
  ops::norm_rope(cpu, keys, weight, eps, table, positions, keys, rstd);
  BOOST_TEST(same_bits(keys, y));
  BOOST_TEST(same_bits(qkv.view.narrowed(1, 0, 2), before.view.narrowed(1, 0, 2)));
}

BOOST_AUTO_TEST_CASE(a_position_outside_the_table_is_named) {
  const Array x = random(Dtype::f32, {3, 1, 4}, 1), positions = random_integers({3}, 2, 0, 9);
  positions.view.as<std::int32_t>()[1] = 9;
  BOOST_CHECK_EXCEPTION(
      ops::norm_rope(cpu, x, {}, eps, angles(9, 4, {}), positions, x, {}), Error,
      [](const Error& error) { return std::string(error.what()).find("position 9 of row 1") != std::string::npos; });
}

BOOST_AUTO_TEST_CASE(shapes_that_do_not_fit_are_named) {
  const Array x = random(Dtype::f32, {3, 4}, 1), weight = random(Dtype::f32, {5}, 1), rstd = empty(Dtype::f32, {3});
  BOOST_CHECK_EXCEPTION(ops::rms_norm(cpu, x, weight, eps, x, rstd), Error, [](const Error& error) {
    return std::string(error.what()).find("weight f32[5]") != std::string::npos;
  });
}
