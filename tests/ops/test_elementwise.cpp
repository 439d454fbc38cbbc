#include "ops/elementwise.h"

#include <boost/test/unit_test.hpp>

#include "framework/base/threads.h"
#include "ops/reference/elementwise.h"
#include "tests/support/draw.h"
#include "tests/support/views.h"

using namespace dujiang;
using namespace dujiang::test;

namespace {

Stream cpu{Device{}};
const std::vector<Shape> shapes = [] {
  std::vector<Shape> shapes{{0}, {1}, {3}, {37}, {1, 1}, {5, 0}, {3, 33}, {2, 3, 4, 19}};
  for (const auto& [rows, columns] : and_drawn<2>({}, 4, 8, {9, 200})) shapes.push_back({rows, columns});
  return shapes;
}();

struct ThreeThreads {
  ThreeThreads() { set_thread_count(3); }
};
BOOST_TEST_GLOBAL_FIXTURE(ThreeThreads);

const double u = roundoff(Dtype::f32);

}  // namespace

BOOST_AUTO_TEST_CASE(copy_converts_between_dtypes_and_layouts_with_one_rounding) {
  for (Dtype from : compute_dtypes)
    for (Dtype to : compute_dtypes)
      for (const Shape& shape : shapes)
        for (Layout in : layouts)
          for (Layout out : layouts) {
            const Array x = random(from, shape, 1, in), y = empty(to, shape, out), expected = empty(to, shape, out);
            ops::copy(cpu, x, y);
            ops::reference::copy(cpu, x, expected);
            BOOST_TEST(same_bits(y, expected), x.view.str() << " to " << y.view.str());
          }
}

BOOST_AUTO_TEST_CASE(large_views_are_shared_out_among_threads) {
  for (const Shape& shape : {Shape{100003}, Shape{3000, 41}})
    for (Layout layout : {Layout::contiguous, Layout::padded}) {
      const Array a = random(Dtype::bf16, shape, 1, layout), b = random(Dtype::bf16, shape, 2);
      const Array y = empty(Dtype::bf16, shape, layout), expected = empty(Dtype::bf16, shape);
      ops::multiply(cpu, a, b, y);
      ops::reference::multiply(cpu, a, b, expected);
      BOOST_TEST(same_bits(y, expected));
    }
}

BOOST_AUTO_TEST_CASE(copy_moves_integers_and_doubles) {
  for (Dtype dtype : {Dtype::i32, Dtype::i64, Dtype::f64})
    for (Layout layout : layouts) {
      const Array x = clone(random_integers({7, 5}, 1, -1000, 1000), dtype), y = empty(dtype, {7, 5}, layout);
      ops::copy(cpu, x, y);
      BOOST_TEST(same_bits(x, y));
    }
  BOOST_CHECK_THROW(ops::copy(cpu, empty(Dtype::i32, {2}), empty(Dtype::f32, {2})), Error);
}

BOOST_AUTO_TEST_CASE(copy_rounds_every_exponent_and_every_half_like_the_types_themselves) {
  const std::int64_t n = 65536 * 4;
  const Array x = empty(Dtype::f32, {n});
  const Philox philox(7, 0);
  for (std::int64_t i = 0; i < n; ++i) {
    const std::uint32_t low[] = {0x8000, 0x7fff, 0, static_cast<std::uint32_t>(philox.bits(i) & 0xffff)};
    x.view.as<float>()[i] = std::bit_cast<float>(static_cast<std::uint32_t>(i / 4) << 16 | low[i % 4]);
  }
  for (Dtype to : {Dtype::bf16, Dtype::f16}) {
    const Array y = empty(to, {n}), back = empty(Dtype::f32, {n});
    ops::copy(cpu, x, y);
    ops::copy(cpu, y, back);
    std::int64_t wrong = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const float value = x.view.as<float>()[i];
      const float expected = to == Dtype::bf16 ? float(bf16(value)) : float(f16(value));
      const float found = back.view.as<float>()[i];
      wrong += std::isnan(value) ? !std::isnan(found)
                                 : std::bit_cast<std::uint32_t>(expected) != std::bit_cast<std::uint32_t>(found);
    }
    BOOST_TEST(wrong == 0, name_of(to));
  }
}

BOOST_AUTO_TEST_CASE(fill_writes_every_element_and_nothing_else) {
  for (Dtype dtype : compute_dtypes)
    for (const Shape& shape : shapes)
      for (Layout layout : layouts) {
        const Array y = empty(dtype, shape, layout);
        const std::size_t untouched = y.memory->size() / size_of(dtype) - static_cast<std::size_t>(shape.count());
        ops::fill(cpu, y, 1.5f);
        check_close(y, constant(Dtype::f64, shape, 1.5), {}, "fill");
        const auto all = View(y.memory->data(), dtype, {static_cast<std::int64_t>(y.memory->size() / size_of(dtype))});
        std::size_t still = 0;
        for (double v : values(all)) still += std::isnan(v);
        BOOST_TEST(still == untouched);
      }
}

BOOST_AUTO_TEST_CASE(add_multiply_and_scale_round_once) {
  for (Dtype dtype : compute_dtypes)
    for (Dtype out : {dtype, Dtype::f32})
      for (const Shape& shape : shapes)
        for (Layout la : layouts)
          for (Layout ly : layouts) {
            const Array a = random(dtype, shape, 1, la), b = random(dtype, shape, 2), y = empty(out, shape, ly);
            const Array expected = empty(out, shape);
            // The oracle's double holds sums and products of these inputs exactly, or nearly: f32 rounds it first.
            ops::add(cpu, a, b, y);
            ops::reference::add(cpu, a, b, expected);
            BOOST_TEST(same_bits(y, expected), "add " << a.view.str());
            ops::multiply(cpu, a, b, y);
            ops::reference::multiply(cpu, a, b, expected);
            BOOST_TEST(same_bits(y, expected), "multiply " << a.view.str());
            ops::scale(cpu, a, 0.3f, y);
            ops::reference::scale(cpu, a, 0.3f, expected);
            BOOST_TEST(same_bits(y, expected), "scale " << a.view.str());
          }
}

BOOST_AUTO_TEST_CASE(a_stride_of_zero_broadcasts_an_input) {
  const Array row = random(Dtype::f32, {33}, 1), x = random(Dtype::f32, {4, 33}, 2), y = empty(Dtype::f32, {4, 33});
  const View rows(row.view.data, Dtype::f32, {4, 33}, {0, 1});
  const Array expected = empty(Dtype::f32, {4, 33});
  ops::add(cpu, rows, x, y);
  ops::reference::add(cpu, rows, x, expected);
  BOOST_TEST(same_bits(y, expected));
}

BOOST_AUTO_TEST_CASE(outputs_may_be_inputs) {
  for (Dtype dtype : compute_dtypes) {
    const Array a = random(dtype, {5, 37}, 1), b = random(dtype, {5, 37}, 2), expected = empty(dtype, {5, 37});
    ops::reference::add(cpu, a, b, expected);
    ops::add(cpu, a, b, a);
    BOOST_TEST(same_bits(a, expected));
    ops::reference::scale(cpu, b, -2.5f, expected);
    ops::scale(cpu, b, -2.5f, b);
    BOOST_TEST(same_bits(b, expected));
  }
}

BOOST_AUTO_TEST_CASE(swiglu_matches_the_reference) {
  for (Dtype dtype : compute_dtypes)
    for (const Shape& shape : shapes)
      for (Layout layout : layouts)
        for (double deviation : {1.0, 40.0}) {
          const Array gate = random(dtype, shape, 1, layout, deviation), up = random(dtype, shape, 2);
          const Array y = empty(dtype, shape), expected = empty(Dtype::f64, shape);
          ops::swiglu(cpu, gate, up, y);
          ops::reference::swiglu(cpu, gate, up, expected);
          // exp is good to 4 roundoffs, then four operations. Below -88.7 exp(-gate) is infinite and y zero, where
          // the true value is under 1e-35.
          Bound bound = rounding(dtype);
          bound.relative += 8 * u;
          bound.absolute += 1e-35;
          check_close(y, expected, bound, "swiglu");
        }
}

BOOST_AUTO_TEST_CASE(swiglu_backward_matches_the_reference_and_may_overwrite_its_inputs) {
  for (Dtype dtype : compute_dtypes)
    for (const Shape& shape : shapes)
      for (Layout layout : layouts)
        for (double deviation : {1.0, 30.0}) {
          const Array dy = random(dtype, shape, 1), gate = random(dtype, shape, 2, layout, deviation),
                      up = random(dtype, shape, 3), dgate = empty(Dtype::f64, shape), dup = empty(Dtype::f64, shape);
          ops::reference::swiglu_backward(cpu, dy, gate, up, dgate, dup);
          const auto g = values(gate), d = values(dy), v = values(up);
          ops::swiglu_backward(cpu, dy, gate, up, gate, up);
          // Ten roundings of terms no larger than |dy * up| * (1 + |gate|): the two terms may cancel.
          Bound bound = rounding(dtype);
          bound.absolute += 1e-35;
          bound.own = [&](std::size_t i) { return 12 * u * std::abs(d[i] * v[i]) * (1 + std::abs(g[i])); };
          check_close(gate, dgate, bound, "dgate");
          bound.own = [&](std::size_t i) { return 12 * u * std::abs(d[i] * g[i]); };
          check_close(up, dup, bound, "dup");
        }
}

BOOST_AUTO_TEST_CASE(swiglu_keeps_nan_and_infinity) {
  const double infinity = std::numeric_limits<double>::infinity();
  const Array gate = empty(Dtype::f32, {4}), up = constant(Dtype::f32, {4}, 2), y = empty(Dtype::f32, {4});
  assign(gate, {std::nan(""), infinity, 100, 0});
  ops::swiglu(cpu, gate, up, y);
  const auto v = values(y);
  BOOST_TEST(std::isnan(v[0]));
  BOOST_TEST(v[1] == infinity);
  BOOST_TEST(v[2] == 200);
  BOOST_TEST(v[3] == 0);
}

BOOST_AUTO_TEST_CASE(sums_run_in_double_and_depend_on_no_thread_count) {
  for (Dtype dtype : compute_dtypes)
    for (std::int64_t n : {0, 1, 2, 31, 1000, 200001}) {
      const Array x = random(dtype, {n}, 1), sum = empty(Dtype::f32, {1}), squares = empty(Dtype::f64, {1});
      const Array expected = empty(Dtype::f64, {1});
      ops::sum(cpu, x, sum);
      ops::reference::sum(cpu, x, expected);
      // Double sums of n terms of about 1: n * n * 2^-53 at most; then one rounding to f32.
      const double order = static_cast<double>(n * n) * roundoff(Dtype::f64);
      check_close(sum, expected, {u, order}, "sum");
      ops::sum_of_squares(cpu, x, squares);
      ops::reference::sum_of_squares(cpu, x, expected);
      check_close(squares, expected, {static_cast<double>(n) * roundoff(Dtype::f64), 0}, "sum of squares");
      const Array again = empty(Dtype::f64, {1});
      set_thread_count(1);
      ops::sum_of_squares(cpu, x, again);
      set_thread_count(3);
      BOOST_TEST(same_bits(squares, again));
    }
}

BOOST_AUTO_TEST_CASE(sum_of_squares_shows_what_is_not_finite_and_survives_what_is_large) {
  const Array x = constant(Dtype::f32, {100}, 1e30), squares = empty(Dtype::f64, {1});
  ops::sum_of_squares(cpu, x, squares);
  BOOST_TEST(std::isfinite(values(squares)[0]));
  set_element(x, 57, std::numeric_limits<double>::infinity());
  ops::sum_of_squares(cpu, x, squares);
  BOOST_TEST(std::isinf(values(squares)[0]));
  set_element(x, 99, std::nan(""));
  ops::sum_of_squares(cpu, x, squares);
  BOOST_TEST(std::isnan(values(squares)[0]));
}
