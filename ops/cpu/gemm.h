#pragma once
// Matrix products of two-dimensional operands: our own tiles, and for bf16 on AMX oneDNN's.

#include <cstdint>

#include "framework/base/dtype.h"

namespace dujiang::ops::cpu {

/// One operand of a batched product: element (i, r, c) lies at data + i * batch + r * row + c * column (elements).
/// One of row and column is 1, the other covers the extent along it; no stride is zero.
struct GemmOperand {
  void* data;
  Dtype dtype;
  std::int64_t batch, row, column;
};

/// c (m x n) = or += a (m x k) · b (k x n), `count` times; m, n, k, count > 0. a and b share a compute dtype; c has
/// that dtype or f32, and column stride 1.
void gemm(std::int64_t count, std::int64_t m, std::int64_t n, std::int64_t k, const GemmOperand& a,
          const GemmOperand& b, const GemmOperand& c, bool accumulate);

/// The same by oneDNN, of f32 or, where this processor multiplies it, bf16. Creating a primitive costs milliseconds, so
/// each thread keeps those of the last 128 shapes.
void onednn_gemm(std::int64_t count, std::int64_t m, std::int64_t n, std::int64_t k, const GemmOperand& a,
                 const GemmOperand& b, const GemmOperand& c, bool accumulate);

}  // namespace dujiang::ops::cpu
