#pragma once
// Every differentiable op: the forward pass and its gradient stand side by side in fn_*.cpp. Shapes and dtypes are
// those of the contracts in ops/; n is the number of tokens of a micro-batch (all sequences, one after the other).

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "framework/autograd/node.h"
#include "framework/autograd/slices.h"

namespace dujiang::fn {

// fn_matmul.cpp
/// x [n, k] · weightᵀ, weight [m, k] as Hugging Face stores it -> [n, m].
Tensor linear(const Tensor& x, const Tensor& weight);
/// a [..., m, k] · b [..., k, n] with equal leading axes.
Tensor matmul(const Tensor& a, const Tensor& b);

// fn_shape.cpp
Tensor view(const Tensor& x, Shape shape);
Tensor narrow(const Tensor& x, int axis, std::int64_t start, std::int64_t length);
Tensor transpose(const Tensor& x, int axis_a, int axis_b);
Tensor cast(const Tensor& x, Dtype dtype);
/// x itself; `on_gradient` runs when its gradient is complete, before the gradient goes on.
Tensor identity(const Tensor& x, std::function<void()> on_gradient);

// fn_elementwise.cpp
Tensor add(const Tensor& a, const Tensor& b);
Tensor multiply(const Tensor& a, const Tensor& b);
Tensor scale(const Tensor& x, float factor);
/// Who saves the result computes it again in backward (autograd::KeepResults: keeps it).
Tensor swiglu(const Tensor& gate, const Tensor& up);
/// All elements -> f32 [1].
Tensor sum(const Tensor& x);

// fn_norm.cpp
// Who saves a norm, rotated or not, computes it again in backward (likewise).
Tensor rms_norm(const Tensor& x, const Tensor& weight, float eps);
struct NormedSum {
  Tensor sum, normed;
};
/// x + residual and its norm.
NormedSum add_rms_norm(const Tensor& x, const Tensor& residual, const Tensor& weight, float eps);
/// Per-head norm (weight may be undefined) and rotary embedding of x [n, heads, d]; see ops/norm.h.
Tensor norm_rope(const Tensor& x, const Tensor& weight, float eps, const Tensor& table, const Tensor& positions);

// fn_attention.cpp
/// Offsets of the segments that attention runs inside of, as ops::Segments; shared because backward needs them later.
using Offsets = std::shared_ptr<const std::vector<std::int32_t>>;
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Offsets& query_offsets,
                 const Offsets& key_offsets, float scale);

// fn_embedding.cpp
Tensor embedding(const Tensor& tokens, const Tensor& table);

// fn_sliced.cpp: the same functions where an axis is sharded and bits must not tell how (slices.h)
enum class SlicedAxis { out, in };
struct Slicing {
  SlicedAxis axis;  ///< of a linear function: the weight's rows (column parallel) or its columns (row parallel)
  Slices slices;
};
/// Sliced by `out`: the gradient of x is a sum over slices; by `in`: the result is. That sum is rounded once.
Tensor linear(const Tensor& x, const Tensor& weight, const Slicing& slicing);
/// Sliced by query heads; a slice has several groups of heads that share a key head, one, or a part of one. The
/// gradients of a key head that several slices read are sums over them, `across` those ranks that hold copies of it.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Offsets& query_offsets,
                 const Offsets& key_offsets, float scale, const Slices& heads);
/// Sliced by heads; the weight's gradient is a sum over slices.
Tensor norm_rope(const Tensor& x, const Tensor& weight, float eps, const Tensor& table, const Tensor& positions,
                 const Slices& heads);

// fn_loss.cpp
/// Where the output matrix is a part of the vocabulary's rows.
struct VocabularyShard {
  std::int64_t offset = 0;  ///< the first row's number
  /// What the ranks' slices know of the logits, f32 [slices here, 3, rows] -> [slices of all ranks, 3, rows], in the
  /// order of the vocabulary; empty where this rank has it all. Collective: all ranks call it equally often.
  std::function<Tensor(const Tensor& statistics)> gather = nullptr;
  /// Fixed slices of the vocabulary (slices.h), over which the gradient of x is a sum. Without, the part here is one
  /// slice, computed as fast as it goes, and the gradient of x is this rank's summand.
  std::optional<Slices> slices = std::nullopt;
};
struct CrossEntropyOptions {
  std::int64_t valid;       ///< size of the whole vocabulary without padding rows
  float grad_scale = 1.0f;  ///< gradients are those of grad_scale * loss
  std::optional<VocabularyShard> shard = std::nullopt;
};
/// sum_i loss_weight[i] * cross_entropy(x[i] · weightᵀ, labels[i]) -> f32 [1]; labels below 0 are left out.
///
/// The logits exist only for some rows at a time (16 MB, or up to 64 for 1,024 rows): where gradients are recorded, the
/// forward pass turns each chunk into its gradients at once, and `weight`, which must then be a leaf, receives its part
/// there and then. backward() must therefore be started from this loss itself, with gradient 1.
Tensor linear_cross_entropy(const Tensor& x, const Tensor& weight, const Tensor& labels, const Tensor& loss_weight,
                            const CrossEntropyOptions& options);

}  // namespace dujiang::fn
