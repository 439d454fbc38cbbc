#pragma once
// Muon's arithmetic (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks",
// https://kellerjordan.github.io/posts/muon/) as Liu et al. 2025 scale it ("Muon is Scalable for LLM Training",
// arXiv:2502.16982): a matrix moves along its momentum with all singular values made about 1, at a size that lets
// AdamW's learning rate and decay carry over.

#include "framework/tensor/tensor.h"

namespace dujiang::train {

/// Why `train.strict: true` is refused with it.
inline constexpr const char* no_strict_muon =
    "true isn't possible with optimizer.name: muon, whose products have other bits for other numbers of threads; "
    "choose optimizer.name: adamw, or train.strict: false";

struct MuonStep {
  float momentum;
  bool nesterov;
  float grad_scale;  ///< gradients are multiplied by it first: clipping and un-scaling
};

// On any stretch of a matrix: contiguous [n], f32.
/// momentum = step.momentum * momentum + grad_scale * grad.
void muon_momentum(const Tensor& momentum, const Tensor& grad, const MuonStep& step);
/// to = momentum, or with Nesterov's step ahead grad_scale * grad + step.momentum * momentum; `to` of any floating
/// dtype.
void muon_direction(const Tensor& momentum, const Tensor& grad, const MuonStep& step, const Tensor& to);
/// master = (1 - decay) * master - size * update.
void muon_apply(const Tensor& master, const Tensor& update, float decay, float size);

/// 0.2 * sqrt(max(rows, columns)): gives an update with singular values of 1 the root mean square 0.2 of AdamW's.
double muon_size(const Shape& matrix);

/// In place: x = U S Vᵀ -> U p(S) Vᵀ by `steps` Newton-Schulz iterations x -> a x + b xxᵀx + c (xxᵀ)²x, after a
/// division by the Frobenius norm, with Jordan's (a, b, c) = (3.4445, -4.7750, 2.0315), which grow small singular
/// values fastest and leave large ones between about 0.68 and 1.14 rather than at 1. x: [rows, columns] contiguous, f32
/// or bf16, in which all products are rounded. An error e of x, relative to its norm, comes out as a^steps * e at most
/// in the directions of small singular values: 485 * e after 5 steps.
void orthogonalise(const Tensor& x, std::int64_t steps);
/// What that takes.
double orthogonalise_flops(const Shape& matrix, std::int64_t steps);

}  // namespace dujiang::train
