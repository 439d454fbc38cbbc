// Products of few rows, which have kernels of their own.

#include <boost/test/unit_test.hpp>

#include "framework/base/threads.h"
#include "ops/matmul.h"
#include "ops/reference/matmul.h"
#include "tests/support/views.h"

using namespace dujiang;
using namespace dujiang::test;

namespace {

Stream cpu{Device{}};

/// x [m, k] times the transpose of weight [n, k], the way that models keep it.
void multiply(const View& x, const View& weight, const View& y, bool accumulate) {
  ops::matmul(cpu, x, weight.transposed(0, 1), y, accumulate);
}

}  // namespace

BOOST_AUTO_TEST_CASE(products_of_few_rows_match_the_reference) {
  set_thread_count(3);
  const Philox draws(5, 0);
  std::uint64_t draw = 0;
  const auto below = [&](std::uint64_t n) { return static_cast<std::int64_t>(draws.below(draw++, n)); };
  for (int round = 0; round < 300; ++round) {
    const Dtype dtype = compute_dtypes[below(3)], out = below(2) == 0 ? Dtype::f32 : dtype;
    const std::int64_t m = 1 + below(33), n = 1 + below(below(2) == 0 ? 9 : 300),
                       k = 1 + below(below(2) == 0 ? 9 : 150);
    const auto layout = [&] { return below(2) == 0 ? Layout::contiguous : Layout::padded; };
    const bool accumulate = below(2) == 0;
    const Array x = random(dtype, {m, k}, 1, layout()), weight = random(dtype, {n, k}, 2, layout());
    const Array y = accumulate ? random(out, {m, n}, 3, layout()) : empty(out, {m, n}, layout());
    const Array expected = accumulate ? clone(y, Dtype::f64) : empty(Dtype::f64, {m, n});
    const Array magnitude = accumulate ? absolute(y) : empty(Dtype::f64, {m, n});
    const auto columns = [](const Array& w) { return w.view.transposed(0, 1); };
    ops::reference::matmul(cpu, clone(x, Dtype::f64), columns(clone(weight, Dtype::f64)), expected, accumulate);
    ops::reference::matmul(cpu, absolute(x), columns(absolute(weight)), magnitude, accumulate);
    multiply(x, weight, y, accumulate);
    // k products and a sum of k + 1 terms, each rounded in f32, then the result's rounding.
    const auto terms = values(magnitude);
    const double share = static_cast<double>(k + 1) * roundoff(Dtype::f32) * (1 + roundoff(out));
    Bound bound = rounding(out);
    bound.own = [&](std::size_t i) { return share * terms[i]; };
    check_close(y, expected, bound, "round " + std::to_string(round));
  }
}

BOOST_AUTO_TEST_CASE(a_row_has_the_same_bits_beside_any_others_and_on_any_threads) {
  for (Dtype dtype : compute_dtypes) {
    const std::int64_t m = 32, n = 201, k = 150;
    const Array x = random(dtype, {m, k}, 1), weight = random(dtype, {n, k}, 2), all = empty(dtype, {m, n});
    set_thread_count(1);
    multiply(x, weight, all, false);
    for (const int threads : {1, 3}) {
      set_thread_count(threads);
      for (const std::int64_t rows : {1, 2, 3, 4, 7, 32}) {
        for (const std::int64_t begin : {std::int64_t{0}, (m - rows) / 2, m - rows}) {
          const Array y = empty(dtype, {rows, n - 5});
          multiply(x.view.narrowed(0, begin, rows), weight.view.narrowed(0, 5, n - 5), y, false);
          BOOST_TEST(same_bits(y, all.view.narrowed(0, begin, rows).narrowed(1, 5, n - 5)));
        }
      }
    }
  }
}
