#include "ops/optim.h"

#include <bit>
#include <boost/test/unit_test.hpp>
#include <cmath>

#include "framework/base/threads.h"
#include "ops/reference/optim.h"
#include "tests/support/draw.h"
#include "tests/support/views.h"

using namespace dujiang;
using namespace dujiang::test;

namespace {

Stream cpu{Device{}};
const ops::AdamwStep step = {.lr = 1e-2f,
                             .beta1 = 0.9f,
                             .beta2 = 0.95f,
                             .eps = 1e-8f,
                             .weight_decay = 0.1f,
                             .bias_correction1 = 1 - 0.729f,
                             .bias_correction2 = 1 - 0.857375f,
                             .grad_scale = 0.5f};

struct ThreeThreads {
  ThreeThreads() { set_thread_count(3); }
};
BOOST_TEST_GLOBAL_FIXTURE(ThreeThreads);

Array positive(Shape shape, std::uint64_t seed) {
  Array array = random(Dtype::f32, shape, seed);
  auto v = values(array);
  for (double& x : v) x = x * x;
  assign(array, v);
  return array;
}

}  // namespace

BOOST_AUTO_TEST_CASE(updates_match_the_reference) {
  const double u = roundoff(Dtype::f32);
  for (auto [n] : and_drawn<1>({{0}, {1}, {15}, {16}, {17}, {1000}, {100003}}, 5, 12, {5000}))
    for (Dtype dtype : compute_dtypes) {  // f32: whole weights alone, f16: and a copy, bf16: halves
      const Array master = random(Dtype::f32, {n}, 1), m = random(Dtype::f32, {n}, 2), v = positive({n}, 3),
                  grad = random(Dtype::f32, {n}, 4), param = empty(dtype, {n});
      const Array master2 = clone(master, Dtype::f64), m2 = clone(m, Dtype::f64), v2 = clone(v, Dtype::f64);
      const auto before = values(master), moment = values(m), gradient = values(grad);
      if (dtype == Dtype::bf16) {
        const Array low = empty(Dtype::u16, {n});
        ops::split_f32(cpu, master, param, low);
        ops::adamw(cpu, low, m, v, grad, param, step);
        ops::join_f32(cpu, param, low, master);
      } else {
        ops::adamw(cpu, master, m, v, grad, dtype == Dtype::f32 ? View{} : param.view, step);
      }
      ops::reference::adamw(cpu, master2, m2, v2, grad, {}, step);
      // Four roundings of terms that may cancel; v's are all positive.
      Bound bound;
      bound.own = [&](std::size_t i) { return 4 * u * (std::abs(moment[i]) + std::abs(gradient[i])); };
      check_close(m, m2, bound, "m");
      check_close(v, v2, {6 * u, 0}, "v");
      // The step is lr / bc1 * m / (sqrt(v / bc2) + eps): some fifteen roundings; its m cancels as above.
      const auto second = values(v2);
      bound.own = [&](std::size_t i) {
        const double scale =
            step.lr / step.bias_correction1 / (std::sqrt(second[i] / step.bias_correction2) + step.eps);
        return 3 * u * std::abs(before[i]) + 15 * u * scale * (std::abs(moment[i]) + std::abs(gradient[i]));
      };
      check_close(master, master2, bound, "master");
      if (dtype == Dtype::f16) BOOST_TEST(same_bits(param, clone(master, dtype)), "the copy is the master, rounded");
    }
}

BOOST_AUTO_TEST_CASE(halves_are_those_of_the_reference_and_give_every_f32_back) {
  std::vector<std::uint32_t> bits;
  // Every upper half beside the lower ones around which rounding turns; each class of floats is among them.
  for (std::uint32_t high = 0; high < 0x10000; ++high)
    for (std::uint32_t low : {0x0u, 0x1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) bits.push_back(high << 16 | low);
  const Philox philox(1, 2);
  for (std::uint64_t i = 0; i < 100003; ++i) bits.push_back(static_cast<std::uint32_t>(philox.below(i, 1ull << 32)));
  const auto n = std::ssize(bits);
  const Array x = empty(Dtype::f32, {n}), again = empty(Dtype::f32, {n}), high = empty(Dtype::bf16, {n}),
              low = empty(Dtype::u16, {n}), high2 = empty(Dtype::bf16, {n}), low2 = empty(Dtype::u16, {n});
  std::memcpy(x.view.data, bits.data(), x.view.bytes());
  ops::split_f32(cpu, x, high, low);
  ops::reference::split_f32(cpu, x, high2, low2);
  BOOST_TEST((same_bits(high, high2) && same_bits(low, low2)));
  ops::join_f32(cpu, high, low, again);
  std::int64_t lost = 0, far = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const float before = x.view.as<float>()[i], after = again.view.as<float>()[i];
    const auto kept = std::bit_cast<std::uint32_t>(after);
    const auto at = static_cast<std::size_t>(i);
    lost += std::isnan(before) ? kept != ((bits[at] & 0xffff0000u) | 0x400000u) : kept != bits[at];
    // The nearest bf16: none but in a tie may be as near, and then it is the one further from zero.
    const float value = high.view.as<bf16>()[i], even = bf16(before);
    const bool tie = (bits[at] & 0xffffu) == 0x8000u;
    far += std::isnan(before) ? !std::isnan(value) : tie ? std::abs(value) < std::abs(before) : value != even;
  }
  BOOST_TEST(lost == 0);
  BOOST_TEST(far == 0);
}

BOOST_AUTO_TEST_CASE(a_thousand_steps_on_halves_are_those_on_whole_weights) {
  const std::int64_t n = 1003;
  const Array whole = random(Dtype::f32, {n}, 1), m = random(Dtype::f32, {n}, 2), v = positive({n}, 3),
              high = empty(Dtype::bf16, {n}), low = empty(Dtype::u16, {n}), m2 = clone(m), v2 = clone(v),
              joined = empty(Dtype::f32, {n});
  ops::split_f32(cpu, whole, high, low);
  for (std::uint64_t i = 0; i < 1000; ++i) {
    const Array grad = random(Dtype::f32, {n}, 4 + i);
    ops::adamw(cpu, whole, m, v, grad, {}, step);
    ops::adamw(cpu, low, m2, v2, grad, high, step);
  }
  ops::join_f32(cpu, high, low, joined);
  BOOST_TEST((same_bits(joined, whole) && same_bits(m, m2) && same_bits(v, v2)));
}

BOOST_AUTO_TEST_CASE(a_step_on_moments_in_bf16_is_that_on_f32_ones_rounded_to_nearest_even_after_it) {
  for (auto [n] : and_drawn<1>({{0}, {1}, {15}, {16}, {17}, {1000}, {100003}}, 5, 12, {5000}))
    for (Dtype dtype : compute_dtypes) {
      const Array m = random(Dtype::bf16, {n}, 2), v = clone(positive({n}, 3), Dtype::bf16),
                  grad = random(Dtype::f32, {n}, 4);
      // Subnormals are rounded like others, on every instruction set.
      for (std::int64_t i = 0; i < n; i += 7)
        for (const Array& array : {m, v, grad}) set_element(array, i, 3e-39);
      struct Weights {
        Array master, param;
      };
      const auto weights = [&, n = n]() -> Weights {
        const Array whole = random(Dtype::f32, {n}, 1), param = empty(dtype, {n}), low = empty(Dtype::u16, {n});
        if (dtype != Dtype::bf16) return {whole, param};
        ops::split_f32(cpu, whole, param, low);
        return {low, param};
      };
      const auto [master, param] = weights();
      const auto [master2, param2] = weights();
      const Array m2 = clone(m, Dtype::f32), v2 = clone(v, Dtype::f32);
      ops::adamw(cpu, master, m, v, grad, dtype == Dtype::f32 ? View{} : param.view, step);
      ops::adamw(cpu, master2, m2, v2, grad, dtype == Dtype::f32 ? View{} : param2.view, step);
      BOOST_TEST((same_bits(master, master2) && same_bits(param, param2)), n << " " << name_of(dtype));
      BOOST_TEST((same_bits(m, clone(m2, Dtype::bf16)) && same_bits(v, clone(v2, Dtype::bf16))),
                 n << " " << name_of(dtype));
    }
}

BOOST_AUTO_TEST_CASE(hundreds_of_steps_on_moments_in_bf16_end_where_those_on_f32_ones_do) {
  // Noisy quadratics around zero, the rate falling to nothing.
  const std::int64_t n = 4096, steps = 500;
  struct State {
    Array p, m, v;
  };
  const auto fresh = [](Dtype dtype) -> State {
    const Array m = empty(dtype, {n}), v = empty(dtype, {n});
    for (const Array& moment : {m, v}) assign(moment, std::vector<double>(n));
    return {random(Dtype::f32, {n}, 1), m, v};
  };
  const State wide = fresh(Dtype::f32), narrow = fresh(Dtype::bf16);
  for (std::int64_t t = 1; t <= steps; ++t) {
    const Array noise = random(Dtype::f32, {n}, 10 + static_cast<std::uint64_t>(t));
    ops::AdamwStep now = step;
    now.lr = 2e-2f * static_cast<float>(steps - t) / static_cast<float>(steps);
    now.bias_correction1 = 1 - std::pow(step.beta1, static_cast<float>(t));
    now.bias_correction2 = 1 - std::pow(step.beta2, static_cast<float>(t));
    for (const State* state : {&wide, &narrow}) {
      const Array grad = clone(noise);
      for (std::int64_t i = 0; i < n; ++i) grad.view.as<float>()[i] += state->p.view.as<float>()[i];
      ops::adamw(cpu, state->p, state->m, state->v, grad, {}, now);
    }
  }
  const auto check = [](const Array& x, const Array& y, const char* what) {
    const auto a = values(x), b = values(y);
    double aa = 0, ab = 0, bb = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      aa += a[i] * a[i];
      ab += a[i] * b[i];
      bb += b[i] * b[i];
    }
    // Roundings of up to 2^-8, remembered for 1 / (1 - beta) steps, leave 2^-8 / sqrt(6 (1 - beta)) at most of each
    // element, 7e-3 of v, in either direction: over 4096 of them a slope of one within a 64th of that, allowed
    // fourfold.
    BOOST_TEST(std::sqrt(std::max(bb - ab * ab / aa, 0.0) / aa) < 7.2e-3, what);
    BOOST_CHECK_CLOSE_FRACTION(ab / aa, 1.0, 5e-4);
  };
  check(wide.p, narrow.p, "weights");
  check(wide.m, narrow.m, "m");
  check(wide.v, narrow.v, "v");
}

// Why the optimizer refuses betas above 0.99 for moments in bf16.
BOOST_AUTO_TEST_CASE(a_moment_in_bf16_follows_gradients_that_fall_tenfold_at_0_99_and_stands_still_at_0_999) {
  const auto root_beside_f32 = [](float beta2, int steps) {
    const std::int64_t n = 256;
    ops::AdamwStep now = step;
    now.beta2 = beta2;
    const Array p = random(Dtype::f32, {n}, 1), m = clone(p), m2 = clone(m, Dtype::bf16), v = positive({n}, 2),
                v2 = clone(v, Dtype::bf16);
    for (int t = 0; t < 2 * steps; ++t) {
      const auto seed = 10 + static_cast<std::uint64_t>(t);
      const Array grad = random(Dtype::f32, {n}, seed, Layout::contiguous, t < steps ? 1 : 0.1);
      ops::adamw(cpu, p, m, v, grad, {}, now);
      ops::adamw(cpu, p, m2, v2, grad, {}, now);
    }
    double sum = 0, sum2 = 0;
    for (const double x : values(v)) sum += std::sqrt(x);
    for (const double x : values(v2)) sum2 += std::sqrt(x);
    return sum2 / sum;
  };
  // Below half the distance of neighbours nothing moves: 2^-8 / (1 - beta) of v at most, and of its root half of that.
  BOOST_CHECK_CLOSE_FRACTION(root_beside_f32(0.99f, 800), 1.0, 0.2);
  BOOST_TEST(root_beside_f32(0.999f, 8000) > 10);
}

// The bits that one rounding after another gives, which every instruction set must reproduce.
BOOST_AUTO_TEST_CASE(bits_are_those_of_unfused_arithmetic) {
  const std::int64_t n = 1003;
  const Array master = random(Dtype::f32, {n}, 1), m = random(Dtype::f32, {n}, 2), v = positive({n}, 3),
              grad = random(Dtype::f32, {n}, 4);
  const Array expected = clone(master);
  for (std::int64_t i = 0; i < n; ++i) {
    // volatile: every intermediate is stored as a float, so nothing is fused here either.
    volatile float g = grad.view.as<float>()[i] * step.grad_scale;
    volatile float m1 = m.view.as<float>()[i] * step.beta1, m2 = g * (1 - step.beta1), m3 = m1 + m2;
    volatile float g2 = g * g, v1 = v.view.as<float>()[i] * step.beta2, v2 = g2 * (1 - step.beta2), v3 = v1 + v2;
    volatile float corrected = v3 * (1 / step.bias_correction2), root = std::sqrt(corrected), below = root + step.eps;
    volatile float size = step.lr / step.bias_correction1, above = size * m3, change = above / below;
    volatile float decay = step.lr * step.weight_decay, kept = 1 - decay;
    volatile float p = expected.view.as<float>()[i] * kept;
    expected.view.as<float>()[i] = p - change;
  }
  ops::adamw(cpu, master, m, v, grad, {}, step);
  BOOST_TEST(same_bits(master, expected));
}

BOOST_AUTO_TEST_CASE(views_that_do_not_fit_are_named) {
  const Array a = random(Dtype::f32, {4}, 1), b = random(Dtype::f32, {5}, 1);
  BOOST_CHECK_THROW(ops::adamw(cpu, a, a, a, b, {}, step), Error);
  BOOST_CHECK_THROW(ops::adamw(cpu, a, a, a, a, b, step), Error);
  const Array high = empty(Dtype::bf16, {4}), low = empty(Dtype::u16, {4});
  BOOST_CHECK_THROW(ops::adamw(cpu, a, a, a, a, high, step), Error);
  BOOST_CHECK_THROW(ops::adamw(cpu, low, a, a, a, {}, step), Error);
  BOOST_CHECK_THROW(ops::adamw(cpu, a, high, a, a, {}, step), Error);
  BOOST_CHECK_THROW(ops::adamw(cpu, a, a, high, a, {}, step), Error);
  BOOST_CHECK_THROW(ops::split_f32(cpu, b, high, low), Error);
  BOOST_CHECK_THROW(ops::join_f32(cpu, low, low, a), Error);
}
