#pragma once
// Sums over a sharded axis whose bits depend on neither the number of ranks that share it nor the number of threads:
// the axis is cut into slices of a fixed width, each slice's products are computed by one thread alone, and the slices'
// f32 sums are added in one balanced binary tree, the lower half of which lies within a rank and the upper half over
// ranks. So it takes a power of two of slices on each rank, and a collective that sums in tree order.

#include <functional>

#include "framework/tensor/tensor.h"

namespace dujiang::fn {

/// How this rank's part of an axis is cut.
struct Slices {
  int local = 1;  ///< slices held here
  /// Adds up an f32 tensor, contiguous, over the ranks that share the axis, in place and in tree order over them;
  /// empty where this rank has the whole axis.
  std::function<void(const Tensor& sum)> across = nullptr;
  /// False where another rank holds the same part and brings it into the sum: this one then adds nothing.
  bool counts = true;
};

/// Runs body(i) for slice i of `count`, each on one thread alone, on which kernels open no parallel regions. What a
/// body throws is thrown here when all have ended.
void each_slice(int count, const std::function<void(int)>& body);

/// The tree's sum of f32 partials [slices, ...], which are overwritten: [...], over ranks too. Every slice is here.
Tensor tree_sum(const Tensor& partials, const Slices& slices);

/// Slice `index` of `count` equal ones along `axis`; throws where they don't divide it.
Tensor slice_of(const Tensor& x, int axis, int index, int count);
/// x, or where its elements do not lie in order, a copy: products of packed operands are the same in every layout.
Tensor packed(const Tensor& x);

/// target = or += part, where the target may lie in wider rows.
void put(const Tensor& target, const Tensor& part, bool accumulate);

}  // namespace dujiang::fn
