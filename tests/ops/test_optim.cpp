#include "ops/optim.h"

#include <boost/test/unit_test.hpp>

#include "framework/base/threads.h"
#include "ops/reference/optim.h"
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
  for (std::int64_t n : {0, 1, 15, 16, 17, 1000, 100003})
    for (Dtype dtype : compute_dtypes) {  // f32 stands for no copy
      const Array master = random(Dtype::f32, {n}, 1), m = random(Dtype::f32, {n}, 2), v = positive({n}, 3),
                  grad = random(Dtype::f32, {n}, 4), param = empty(dtype, {n});
      const Array master2 = clone(master, Dtype::f64), m2 = clone(m, Dtype::f64), v2 = clone(v, Dtype::f64);
      const auto before = values(master), moment = values(m), gradient = values(grad);
      ops::adamw(cpu, master, m, v, grad, dtype == Dtype::f32 ? View{} : param.view, step);
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
      if (dtype != Dtype::f32) BOOST_TEST(same_bits(param, clone(master, dtype)), "the copy is the master, rounded");
    }
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
}
