#include "framework/train/muon.h"

#include <algorithm>
#include <cmath>

#include "ops/elementwise.h"
#include "ops/matmul.h"

namespace dujiang::train {

void muon_momentum(const Tensor& momentum, const Tensor& grad, const MuonStep& step) {
  auto& stream = default_stream(momentum.device());
  const Tensor scaled = Tensor::empty(grad.shape(), Dtype::f32, grad.device());
  ops::scale(stream, grad, step.grad_scale, scaled);
  ops::scale(stream, momentum, step.momentum, momentum);
  ops::add(stream, momentum, scaled, momentum);
}

void muon_direction(const Tensor& momentum, const Tensor& grad, const MuonStep& step, const Tensor& to) {
  if (!step.nesterov) return to.copy_from(momentum);
  auto& stream = default_stream(momentum.device());
  const Tensor scaled = Tensor::empty(grad.shape(), Dtype::f32, grad.device());
  const Tensor ahead = Tensor::empty(grad.shape(), Dtype::f32, grad.device());
  ops::scale(stream, grad, step.grad_scale, scaled);
  ops::scale(stream, momentum, step.momentum, ahead);
  ops::add(stream, scaled, ahead, ahead);
  to.copy_from(ahead);
}

void muon_apply(const Tensor& master, const Tensor& update, float decay, float size) {
  auto& stream = default_stream(master.device());
  const Tensor change = Tensor::empty(master.shape(), Dtype::f32, master.device());
  ops::scale(stream, update, -size, change);
  ops::scale(stream, master, 1 - decay, master);
  ops::add(stream, master, change, master);
}

double muon_size(const Shape& matrix) {
  return 0.2 * std::sqrt(static_cast<double>(std::max(matrix[0], matrix[1])));
}

void orthogonalise(const Tensor& x, std::int64_t steps) {
  constexpr float a = 3.4445f, b = -4.7750f, c = 2.0315f;
  DUJIANG_CHECK(x.shape().rank() == 2 && x.contiguous(), "orthogonalise: {}, expected a contiguous matrix", x.str());
  if (x.count() == 0) return;
  auto& stream = default_stream(x.device());
  const Tensor squares = Tensor::zeros({1}, Dtype::f64);
  ops::sum_of_squares(stream, x, squares);
  const auto inverse_norm = static_cast<float>(1.0 / (std::sqrt(squares.item()) + 1e-7));
  // With the shorter side first, the products in between are the smallest.
  const Tensor wide = x.size(0) <= x.size(1) ? x : x.transpose(0, 1);
  Tensor y = Tensor::empty(wide.shape(), x.dtype(), x.device()),
         next = Tensor::empty(wide.shape(), x.dtype(), x.device());
  const Shape square{wide.size(0), wide.size(0)};
  const Tensor gram = Tensor::empty(square, x.dtype(), x.device());
  const Tensor scaled = Tensor::empty(square, x.dtype(), x.device());
  const Tensor polynomial = Tensor::empty(square, x.dtype(), x.device());
  ops::scale(stream, wide, inverse_norm, y);
  for (std::int64_t i = 0; i < steps; ++i) {
    // a y + (b g + c g²) y, g = y yᵀ
    ops::matmul(stream, y, y.transpose(0, 1), gram, false);
    ops::scale(stream, gram, c, scaled);
    ops::scale(stream, gram, b, polynomial);
    ops::matmul(stream, scaled, gram, polynomial, true);
    ops::scale(stream, y, a, next);
    ops::matmul(stream, polynomial, y, next, true);
    std::swap(y, next);
  }
  wide.copy_from(y);
}

double orthogonalise_flops(const Shape& matrix, std::int64_t steps) {
  const auto rows = static_cast<double>(std::min(matrix[0], matrix[1]));
  const auto columns = static_cast<double>(std::max(matrix[0], matrix[1]));
  return static_cast<double>(steps) * 2 * rows * rows * (2 * columns + rows);
}

}  // namespace dujiang::train
