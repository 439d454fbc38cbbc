#include "ops/matmul.h"

#include <boost/test/unit_test.hpp>

#include <functional>

#include "framework/base/threads.h"
#include "ops/cpu/gemm.h"
#include "ops/cpu/isa.h"
#include "ops/reference/matmul.h"
#include "tests/support/draw.h"
#include "tests/support/views.h"

using namespace dujiang;
using namespace dujiang::test;

namespace {

Stream cpu{Device{}};

/// Runs the kernel, or `product`, on a, b, c and compares: c's old value is one more term of each sum, which is rounded
/// once.
void check_product(const View& a, const View& b, const View& c, bool accumulate, const std::string& what,
                   const std::function<void()>& product = nullptr) {
  const Array expected = accumulate ? clone(c, Dtype::f64) : empty(Dtype::f64, c.shape);
  const Array magnitude = accumulate ? absolute(c) : empty(Dtype::f64, c.shape);
  ops::reference::matmul(cpu, clone(a, Dtype::f64), clone(b, Dtype::f64), expected, accumulate);
  ops::reference::matmul(cpu, absolute(a), absolute(b), magnitude, accumulate);
  product ? product() : ops::matmul(cpu, a, b, c, accumulate);
  const auto terms = values(magnitude);
  const double share = roundings(static_cast<double>(a.shape[-1] + 1)) * (1 + roundoff(c.dtype));
  Bound bound = rounding(c.dtype);
  bound.own = [&](std::size_t i) { return share * terms[i]; };
  check_close(c, expected, bound,
              what + (accumulate ? " accumulate " : " ") + a.str() + " x " + b.str() + " -> " + c.str());
}

void check_shapes(Shape a, Shape b, Shape c, Dtype dtype, Layout la, Layout lb, Layout lc) {
  for (Dtype out : {dtype, Dtype::f32}) {
    for (bool accumulate : {false, true}) {
      const Array result = accumulate ? random(out, c, 3, lc) : empty(out, c, lc);
      check_product(random(dtype, a, 1, la), random(dtype, b, 2, lb), result, accumulate, "product");
    }
    if (dtype == Dtype::f32) break;
  }
}

struct ThreeThreads {
  ThreeThreads() { set_thread_count(3); }
};
BOOST_TEST_GLOBAL_FIXTURE(ThreeThreads);

}  // namespace

BOOST_AUTO_TEST_CASE(products_match_the_reference_in_every_layout) {
  const std::int64_t sizes[][3] = {{1, 1, 1}, {1, 7, 5}, {5, 1, 9}, {6, 4, 1}, {33, 17, 65}};
  for (Dtype dtype : compute_dtypes)
    for (auto [m, n, k] : sizes)
      for (Layout la : layouts)
        for (Layout lb : layouts)
          for (Layout lc : {Layout::contiguous, Layout::padded})
            check_shapes({m, k}, {k, n}, {m, n}, dtype, la, lb, lc);
}

BOOST_AUTO_TEST_CASE(empty_products_are_zeros_or_nothing) {
  for (Dtype dtype : compute_dtypes) {
    for (auto [m, n, k] : {std::array{0, 3, 4}, std::array{3, 0, 4}, std::array{3, 4, 0}})
      check_shapes({m, k}, {k, n}, {m, n}, dtype, Layout::contiguous, Layout::contiguous, Layout::padded);
    check_shapes({0, 2, 3}, {0, 3, 2}, {0, 2, 2}, dtype, Layout::contiguous, Layout::contiguous, Layout::contiguous);
  }
}

BOOST_AUTO_TEST_CASE(batches_match_the_reference) {
  for (Dtype dtype : compute_dtypes) {
    for (Layout la : layouts)
      for (Layout lb : layouts) check_shapes({2, 3, 5, 7}, {2, 3, 7, 4}, {2, 3, 5, 4}, dtype, la, lb, Layout::padded);
    check_shapes({40, 3, 16}, {40, 16, 9}, {40, 3, 9}, dtype, Layout::contiguous, Layout::transposed,
                 Layout::contiguous);
  }
}

BOOST_AUTO_TEST_CASE(a_stride_of_zero_broadcasts_a_batch) {
  for (Dtype dtype : compute_dtypes) {
    const Array a = random(dtype, {4, 5, 8}, 1);
    View b = random(dtype, {1, 8, 6}, 2);
    const Array memory = random(dtype, {8, 6}, 2);
    b = View(memory.view.data, dtype, {4, 8, 6}, {0, 6, 1});
    check_product(a, b, empty(dtype, {4, 5, 6}), false, "broadcast");
  }
}

BOOST_AUTO_TEST_CASE(heads_inside_rows_are_batches_too) {
  for (Dtype dtype : compute_dtypes) {  // [tokens, heads, d] seen as [heads, tokens, d]
    const Array q = random(dtype, {9, 3, 8}, 1), k = random(dtype, {9, 3, 8}, 2);
    check_product(q.view.transposed(0, 1), k.view.transposed(0, 1).transposed(1, 2), empty(Dtype::f32, {3, 9, 9}),
                  false, "heads");
  }
}

BOOST_AUTO_TEST_CASE(odd_strides_are_packed) {
  const Array memory = random(Dtype::f32, {40, 40}, 1);
  const View neither(memory.view.data, Dtype::f32, {5, 6}, {80, 2});  // no unit stride
  const View overlapping(memory.view.data, Dtype::f32, {5, 6}, {1, 1});
  const View repeated(memory.view.data, Dtype::f32, {5, 6}, {0, 1});
  const Array b = random(Dtype::f32, {6, 7}, 2);
  for (const View& a : {neither, overlapping, repeated})
    check_product(a, b, empty(Dtype::f32, {5, 7}), false, "odd strides");
}

BOOST_AUTO_TEST_CASE(products_larger_than_a_panel_match) {
  for (Dtype dtype : {Dtype::bf16, Dtype::f16}) {
    for (auto [m, n, k] : {std::array{1030, 1, 3}, std::array{1, 1030, 3}, std::array{3, 2, 1030}})
      check_shapes({m, k}, {k, n}, {m, n}, dtype, Layout::transposed, Layout::contiguous, Layout::contiguous);
    check_product(random(dtype, {1026, 2}, 1), random(dtype, {2, 1027}, 2), random(dtype, {1026, 1027}, 3), true,
                  "four panels");
  }
}

// Sizes at and around the edges of tiles, one of the three long in turn; up to two leading axes.
BOOST_AUTO_TEST_CASE(products_of_random_shapes_strides_and_dtypes_match_the_reference) {
  for (std::uint64_t seed = 0; seed < 250; ++seed) {
    Draw draw(seed);
    const Dtype dtype = draw.of({Dtype::f32, Dtype::bf16, Dtype::bf16, Dtype::f16});
    std::int64_t volume = draw.of({2000, 20000, 100000}), sizes[3] = {};
    const std::int64_t longest = draw.below(3);
    for (std::int64_t i = longest; i < longest + 3; ++i) {
      sizes[i % 3] = draw.size(std::min<std::int64_t>(i == longest ? 2200 : 300, volume));
      volume = std::max<std::int64_t>(volume / sizes[i % 3], 1);
    }
    const auto [m, n, k] = sizes;
    const std::int64_t rank = draw.of({2, 2, 3, 4}), outer = draw.size(4),
                       inner = draw.size(std::min<std::int64_t>(volume, 9));
    const auto shape = [&](std::int64_t rows, std::int64_t columns) {
      return rank == 2   ? Shape{rows, columns}
             : rank == 3 ? Shape{inner, rows, columns}
                         : Shape{outer, inner, rows, columns};
    };
    const Array a = draw.strided(dtype, shape(m, k), false), b = draw.strided(dtype, shape(k, n), false),
                c = draw.strided(draw.of({dtype, Dtype::f32}), shape(m, n), true);
    View shared = b;
    if (rank > 2 && draw.once_in(4)) shared.strides[0] = 0;
    const bool accumulate = draw.once_in(2);
    const std::string what = fmt::format("seed {}", seed);
    for (const Array& x : {a, b, c}) randomized(x, draw.seed());
    if (!accumulate) assign(c, std::vector<double>(static_cast<std::size_t>(c.view.count()), NAN));
    check_product(a, shared, c, accumulate, what);
    // Small whole numbers: all sums are exact, so that nothing but the one rounding of the result is allowed for.
    for (const Array& x : {a, b}) assign(x, values(random_integers(x.view.shape, draw.seed(), -4, 5)));
    assign(c, values(random_integers(c.view.shape, draw.seed(), -128, 129)));
    const Array exact = clone(c, Dtype::f64), expected = empty(c.view.dtype, c.view.shape);
    ops::reference::matmul(cpu, clone(a, Dtype::f64), clone(shared, Dtype::f64), exact, accumulate);
    assign(expected, values(exact));
    ops::matmul(cpu, a, shared, c, accumulate);
    check_close(c, expected, {},
                what + " whole numbers " + a.view.str() + " x " + shared.str() + " -> " + c.view.str());
    BOOST_TEST(gaps_are_untouched(c), what << " writes beside " << c.view.str());
  }
}

// What ops::matmul calls for bf16 on AMX alone, of more shapes than its cache holds.
BOOST_AUTO_TEST_CASE(products_of_onednn_match_the_reference) {
  for (Dtype dtype : {Dtype::f32, Dtype::bf16}) {
    if (dtype == Dtype::bf16 && ops::cpu::isa() < ops::cpu::Isa::avx512_bf16) continue;
    for (int pass = 0; pass < 2; ++pass) {
      for (std::int64_t m = 1; m <= 70; ++m) {
        for (bool accumulate : {false, true}) {
          const std::int64_t n = 9, k = 12;
          const Array a = random(dtype, {m, k}, 1), b = random(dtype, {n, k}, 2), c = random(Dtype::f32, {m, n}, 3);
          const auto operand = [](const View& v, std::int64_t row, std::int64_t column) {
            return ops::cpu::GemmOperand{v.data, v.dtype, v.count(), row, column};
          };
          check_product(a, b.view.transposed(0, 1), c, accumulate, "oneDNN", [&] {
            ops::cpu::onednn_gemm(1, m, n, k, operand(a, k, 1), operand(b, 1, k), operand(c, n, 1), accumulate);
          });
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(a_product_does_not_depend_on_how_threads_share_it) {
  if (ops::cpu::isa() == ops::cpu::Isa::amx) return;  // oneDNN's bits do
  const Array a = random(Dtype::bf16, {250, 1300}, 1), b = random(Dtype::bf16, {1300, 150}, 2);
  const Array first = empty(Dtype::f32, {250, 150}), again = empty(Dtype::f32, {250, 150});
  ops::matmul(cpu, a, b, first, false);
  for (int threads : {1, 2, 7}) {
    set_thread_count(threads);
    ops::matmul(cpu, a, b, again, false);
    BOOST_TEST(same_bits(first, again), threads << " threads");
    ops::matmul(cpu, a.view.narrowed(0, 100, 61), b.view.narrowed(1, 16, 80),
                again.view.narrowed(0, 0, 61).narrowed(1, 0, 80), false);
    BOOST_TEST(same_bits(clone(first.view.narrowed(0, 100, 61).narrowed(1, 16, 80), Dtype::f32),
                         clone(again.view.narrowed(0, 0, 61).narrowed(1, 0, 80), Dtype::f32)),
               "a part of the rows and columns");
  }
  set_thread_count(3);
}

BOOST_AUTO_TEST_CASE(shapes_and_dtypes_that_do_not_fit_are_named) {
  const auto f = [](Dtype dtype, Shape shape) { return random(dtype, shape, 1); };
  const auto a = f(Dtype::f32, {2, 3}), b = f(Dtype::f32, {4, 5}), c = f(Dtype::f32, {2, 5});
  BOOST_CHECK_EXCEPTION(ops::matmul(cpu, a, b, c, false), Error, [](const Error& error) {
    const std::string what = error.what();
    return what.find("op matmul") == 0 && what.find("a f32[2, 3]") != what.npos &&
           what.find("b f32[4, 5]") != what.npos && what.find("c f32[2, 5]") != what.npos;
  });
  BOOST_CHECK_THROW(ops::matmul(cpu, a, f(Dtype::bf16, {3, 5}), c, false), Error);
  BOOST_CHECK_THROW(ops::matmul(cpu, a, f(Dtype::f32, {3, 5}), f(Dtype::f16, {2, 5}), false), Error);
  BOOST_CHECK_THROW(ops::matmul(cpu, f(Dtype::f32, {1, 2, 3}), f(Dtype::f32, {3, 5}), c, false), Error);
  BOOST_CHECK_THROW(ops::matmul(cpu, a, f(Dtype::f32, {3, 5}), f(Dtype::f32, {5, 2}).view.transposed(0, 1), false),
                    Error);
}
