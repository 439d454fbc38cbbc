#pragma once
// A sum in a balanced binary tree, of terms that come one after the other.

#include <cstdint>
#include <vector>

#include "framework/tensor/tensor.h"

namespace dujiang::parallel {

/// Keeps one partial sum for each level of the tree that is complete on its left: log2 of the number of terms. For a
/// power of two of terms, the sum of the two halves' sums, and so on down: the tree that collectives use over ranks.
class TreeSum {
 public:
  /// The next term, f32; it is copied.
  void add(const Tensor& term);
  /// Writes the sum into `target` (a term's shape) and starts anew. At least one term.
  void finish(const Tensor& target);

 private:
  std::vector<Tensor> levels_;
  std::uint64_t terms_ = 0;  ///< its bits say which levels hold something
};

}  // namespace dujiang::parallel
