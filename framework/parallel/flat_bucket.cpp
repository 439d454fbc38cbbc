#include "framework/parallel/flat_bucket.h"

namespace dujiang::parallel {
namespace {

constexpr std::int64_t alignment = 16;  // elements: a cache line of f32

}  // namespace

FlatBucket::FlatBucket(std::string name, std::vector<nn::Parameter*> parameters, Dtype dtype, const Allocate& allocate)
    : name_(std::move(name)) {
  std::int64_t total = 0;
  for (auto* p : parameters) {
    if (!p->trainable) {
      p->value = Tensor::empty(p->shape, dtype);
      continue;
    }
    pieces_.push_back({p, total, p->shape.count()});
    total += (p->shape.count() + alignment - 1) / alignment * alignment;
  }
  if (pieces_.empty()) return;
  value_ = Tensor::zeros({total}, dtype);
  auto memory = allocate(static_cast<std::size_t>(total) * sizeof(float));
  const View view(memory.get(), Dtype::f32, {total});
  grad_ = Tensor::over(std::move(memory), view);
  for (const auto& piece : pieces_) {
    auto& p = *piece.parameter;
    p.value = value_.narrow(0, piece.offset, piece.count).view(p.shape);
    autograd::require_grad(p.value, grad_.narrow(0, piece.offset, piece.count).view(p.shape));
  }
}

void FlatBucket::clear_gradients() {
  for (const auto& piece : pieces_) autograd::clear_grad(piece.parameter->value);
}

void FlatBucket::complete_gradients() {
  for (const auto& piece : pieces_) {
    if (!autograd::grad_of(piece.parameter->value).defined())
      autograd::leaf_slot(piece.parameter->value).tensor.fill(0.0f);
  }
}

}  // namespace dujiang::parallel
