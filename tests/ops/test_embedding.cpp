#include "ops/embedding.h"

#include <boost/test/unit_test.hpp>

#include "framework/base/threads.h"
#include "ops/elementwise.h"
#include "ops/reference/embedding.h"
#include "tests/support/draw.h"
#include "tests/support/views.h"

using namespace dujiang;
using namespace dujiang::test;

namespace {

Stream cpu{Device{}};
// Every third token stands for a row that the table hasn't.
void leave_out_rows(const View& tokens) {
  for (std::int64_t i = 1; i < tokens.shape[0]; i += 3) tokens.as<std::int32_t>()[i * tokens.strides[0]] = -1;
}

const auto sizes = and_drawn<3>({{0, 5, 3}, {1, 1, 1}, {7, 3, 0}, {50, 11, 33}, {600, 40, 200}, {1000, 9, 40}}, 3, 8,
                                {200, 100, 130});  // n, v, d

struct ThreeThreads {
  ThreeThreads() { set_thread_count(3); }
};
BOOST_TEST_GLOBAL_FIXTURE(ThreeThreads);

}  // namespace

BOOST_AUTO_TEST_CASE(rows_are_looked_up) {
  for (Dtype dtype : compute_dtypes)
    for (auto [n, v, d] : sizes)
      for (Layout layout : {Layout::contiguous, Layout::padded}) {
        const Array tokens = random_integers({n}, 1, 0, v, Layout::transposed),
                    table = random(dtype, {v, d}, 2, layout);
        const Array y = empty(dtype, {n, d}, layout), expected = empty(dtype, {n, d});
        for (const bool all : {true, false}) {
          if (!all) leave_out_rows(tokens);
          ops::embedding(cpu, tokens, table, y);
          ops::reference::embedding(cpu, tokens, table, expected);
          BOOST_TEST(same_bits(y, expected));
        }
      }
}

BOOST_AUTO_TEST_CASE(gradients_add_up_in_order_for_every_number_of_threads) {
  for (Dtype dtype : compute_dtypes)
    for (auto [n, v, d] : sizes)
      for (Layout layout : {Layout::contiguous, Layout::padded})
        for (bool accumulate : {false, true})
          for (int threads : {1, 3, 5}) {
            const Array tokens = random_integers({n}, 1, 0, v), dy = random(dtype, {n, d}, 2, layout);
            const Array dtable = accumulate ? random(Dtype::f32, {v, d}, 3, layout) : empty(Dtype::f32, {v, d}, layout);
            const Array expected = clone(dtable);
            if (threads != 3) leave_out_rows(tokens);
            set_thread_count(threads);
            ops::embedding_backward(cpu, tokens, dy, dtable, accumulate);
            set_thread_count(3);
            // The oracle adds in double and rounds each sum to f32: exactly what one f32 addition gives.
            ops::reference::embedding_backward(cpu, tokens, dy, expected, accumulate);
            BOOST_TEST(same_bits(dtable, expected), dtable.view.str());
          }
}

BOOST_AUTO_TEST_CASE(rows_of_two_halves_of_a_table_add_up_to_those_of_the_whole) {
  for (Dtype dtype : compute_dtypes) {
    const Array table = random(dtype, {8, 5}, 1), tokens = random_integers({20}, 2, 0, 8);
    for (std::int64_t j = 0; j < 5; ++j) ops::reference::set(table, {3, j}, -0.0);
    const Array whole = empty(dtype, {20, 5}), sum = empty(dtype, {20, 5});
    ops::embedding(cpu, tokens, table, whole);
    Array halves[2];
    for (int half : {0, 1}) {
      const Array local = clone(tokens);
      for (std::int64_t i = 0; i < 20; ++i) {
        auto& token = local.view.as<std::int32_t>()[i];
        token = token / 4 == half ? token % 4 : -1;
      }
      halves[half] = empty(dtype, {20, 5});
      ops::embedding(cpu, local, table.view.narrowed(0, 4 * half, 4), halves[half]);
    }
    ops::add(cpu, halves[0], halves[1], sum);
    BOOST_TEST(same_bits(whole, sum));
  }
}

BOOST_AUTO_TEST_CASE(a_token_outside_the_vocabulary_is_named) {
  const Array tokens = random_integers({4}, 1, 0, 5), table = random(Dtype::f32, {5, 2}, 2);
  for (int bad : {5, -2, -100}) {
    tokens.view.as<std::int32_t>()[2] = bad;
    BOOST_CHECK_EXCEPTION(ops::embedding(cpu, tokens, table, empty(Dtype::f32, {4, 2})), Error,
                          [&](const Error& error) {
                            const std::string what = error.what();
                            return what.find(fmt::format("token {} at index 2", bad)) != what.npos;
                          });
    BOOST_CHECK_THROW(ops::embedding_backward(cpu, tokens, random(Dtype::f32, {4, 2}, 3), table, true), Error);
  }
}
