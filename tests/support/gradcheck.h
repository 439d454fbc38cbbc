#pragma once
// Gradients of differentiable functions against finite differences.

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "framework/autograd/functions.h"
#include "framework/base/philox.h"
#include "tests/support/views.h"

namespace dujiang::test {

/// f32, standard normal, in the given memory layout.
inline Tensor random_tensor(Shape shape, std::uint64_t seed, Layout layout = Layout::contiguous) {
  if (shape.count() == 0) return Tensor::empty(shape, Dtype::f32);
  const Array array = random(Dtype::f32, shape, seed, layout);
  return Tensor::over(std::shared_ptr<void>(array.memory, array.memory->data()), array.view);
}
inline Tensor integer_tensor(const std::vector<std::int32_t>& values) {
  return Tensor::of<std::int32_t>(values, {static_cast<std::int64_t>(values.size())});
}

using Tensors = std::vector<Tensor>;
/// Outputs of inputs; called many times.
using Function = std::function<Tensors(const Tensors&)>;

/// How the function is put into a graph.
enum class Usage {
  leaves,    ///< inputs are leaves
  interior,  ///< inputs are results of another op
  twice,     ///< the function is applied twice to the same inputs
};
inline constexpr Usage usages[] = {Usage::leaves, Usage::interior, Usage::twice};

/// sum over outputs y of c · y, which turns any function into one number. c is fixed; ones for an output of one element
/// (linear_cross_entropy takes no other gradient).
class Objective {
 public:
  double value(const Tensors& outputs) const {
    double sum = 0;
    each(outputs, [&](double c, double y) { sum += c * y; });
    return sum;
  }
  /// The magnitudes that were added up: roundoff times this is how exact value() is. An output below 1 may be the
  /// difference of terms of that size.
  double magnitude(const Tensors& outputs) const {
    double sum = 0;
    each(outputs, [&](double c, double y) { sum += std::abs(c) * std::max(1.0, std::abs(y)); });
    return sum;
  }
  Tensor weights(const Tensor& output, std::size_t index) const {
    if (output.count() == 1) {
      const Tensor one = Tensor::empty(output.shape(), Dtype::f32);
      one.fill(1.0f);
      return one;
    }
    return random_tensor(output.shape(), 900 + index);
  }

 private:
  template <class Visit>
  void each(const Tensors& outputs, Visit&& visit) const {
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const auto c = values(weights(outputs[i], i)), y = values(outputs[i]);
      for (std::size_t k = 0; k < y.size(); ++k) visit(c[k], y[k]);
    }
  }
};

/// The gradients that backward leaves in leaves of the inputs' values, undefined ones as zeros.
inline Tensors gradients(const Function& function, const Tensors& inputs, Usage usage) {
  const Objective objective;
  Tensors leaves, used;
  for (const auto& input : inputs) {
    leaves.push_back(input.detached());
    autograd::require_grad(leaves.back());
    used.push_back(usage == Usage::interior ? fn::identity(leaves.back(), [] {}) : leaves.back());
  }
  const auto run = [&] {
    const Tensors outputs = function(used);
    if (outputs.size() == 1) {
      autograd::backward(outputs[0], objective.weights(outputs[0], 0));
      return;
    }
    Tensor total;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const Tensor part = fn::sum(fn::multiply(outputs[i], objective.weights(outputs[i], i)));
      total = total.defined() ? fn::add(total, part) : part;
    }
    autograd::backward(total);
  };
  run();
  if (usage == Usage::twice) run();
  Tensors result;
  for (const auto& leaf : leaves) {
    const Tensor grad = autograd::grad_of(leaf);
    result.push_back(grad.defined() ? grad : Tensor::zeros(leaf.shape(), Dtype::f32));
  }
  return result;
}

/// Checks d objective / d input for every input element. Inputs are f32 and are changed and put back.
///
/// The five-point difference (f(-2h) - 8 f(-h) + 8 f(h) - f(2h)) / 12h with h = 1/16 is off by h^4 / 30 times the fifth
/// derivative, 5e-7 of it: below 1e-3 of the gradient's scale for the functions here. Outputs carry some 8 roundings
/// of f32 each, which the difference divides by h: 1.5 / h * 8 roundoff * magnitude.
inline void check_gradients(const std::string& what, const Function& function, const Tensors& inputs) {
  constexpr double h = 1.0 / 16;
  const Objective objective;
  double magnitude = 0;
  std::vector<std::vector<double>> expected;
  {
    const autograd::NoGrad guard;
    magnitude = objective.magnitude(function(inputs));
    const auto at = [&](float& x, float base, double offset) {
      x = static_cast<float>(base + offset);
      return objective.value(function(inputs));
    };
    for (const auto& input : inputs) {
      auto& differences = expected.emplace_back();
      for_each_offset(input, [&](std::int64_t offset) {
        float& x = input.raw().as<float>()[offset];
        const float base = x;
        const double sum = at(x, base, -2 * h) - 8 * at(x, base, -h) + 8 * at(x, base, h) - at(x, base, 2 * h);
        x = base;
        differences.push_back(sum / (12 * h));
      });
    }
  }
  for (const Usage usage : usages) {
    const double times = usage == Usage::twice ? 2 : 1;
    const Tensors actual = gradients(function, inputs, usage);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const auto a = values(actual[i]);
      double scale = 0;
      for (const double e : expected[i]) scale = std::max(scale, std::abs(e));
      const double bound = times * (1e-3 * scale + 1.5 / h * 8 * roundoff(Dtype::f32) * magnitude);
      BOOST_TEST_REQUIRE(a.size() == expected[i].size(), what << ": input " << i << ": gradient of another shape");
      for (std::size_t k = 0; k < a.size(); ++k) {
        const double e = times * expected[i][k];
        BOOST_CHECK_MESSAGE(std::abs(a[k] - e) <= bound, what << ", usage " << static_cast<int>(usage) << ", input "
                                                              << i << ", element " << k << ": gradient " << a[k]
                                                              << ", finite difference " << e << ", bound " << bound);
      }
    }
  }
}

}  // namespace dujiang::test
