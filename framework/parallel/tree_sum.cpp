#include "framework/parallel/tree_sum.h"

#include <utility>

#include "framework/base/check.h"
#include "framework/base/rehearsal.h"
#include "ops/elementwise.h"

namespace dujiang::parallel {

void TreeSum::add(const Tensor& term) {
  auto& stream = default_stream(term.device());
  Tensor sum = term;
  std::size_t level = 0;
  for (; (terms_ >> level & 1) != 0; ++level) {
    ops::add(stream, levels_[level], sum, levels_[level]);
    sum = levels_[level];
  }
  if (level == levels_.size()) {
    const MemoryScope use(MemoryUse::gradients);
    levels_.push_back(Tensor::empty(term.shape(), Dtype::f32, term.device()));
  }
  if (level == 0) {
    levels_[0].copy_from(term);
  } else {
    std::swap(levels_[level], levels_[level - 1]);
  }
  ++terms_;
}

void TreeSum::finish(const Tensor& target) {
  DUJIANG_CHECK(terms_ > 0, "the sum of no terms");
  auto& stream = default_stream(target.device());
  Tensor sum;  // of the levels so far: the smaller ones lie on the right
  for (std::size_t level = 0; level < levels_.size(); ++level) {
    if ((terms_ >> level & 1) == 0) continue;
    if (sum.defined()) ops::add(stream, levels_[level], sum, levels_[level]);
    sum = levels_[level];
  }
  target.copy_from(sum);
  terms_ = 0;
}

}  // namespace dujiang::parallel
