#pragma once
// The one order in which host memory is reduced, shared by every host transport.

#include <cstdint>
#include <span>

#include "comm/operation.h"

namespace dujiang::comm {

/// Whether reduce_tree takes this: f32, bf16, f16, f64 with every reduction; i32, i64, u8 with all but avg.
bool can_reduce(Dtype dtype, Reduce reduce);

/// What partial results of a dtype are kept in: f32 for bf16 and f16, else the dtype itself.
Dtype partial_dtype(Dtype dtype);

struct TreeReduction {
  Dtype source, result;  ///< either may be partial_dtype() of the other: for a part of the tree, and the rest of it
  Reduce reduce = Reduce::sum;
  int divide_by = 1;  ///< avg: all ranks, where the tree ends; 1 for a part of it
};

/// Every receive[i] = reduction of sources[0][i] ... sources[n - 1][i] along the tree over 0 ... n - 1 that splits at
/// the largest power of two below n: (((0 1) (2 3)) 4) for five. Partials are of partial_dtype(); one rounding at the
/// end. A receive may be one of the sources, not overlap one otherwise. One thread; receives are written block by block
/// while the block is in the cache.
void reduce_tree(const TreeReduction& how, std::span<const void* const> sources, std::span<void* const> receives,
                 std::int64_t count);

}  // namespace dujiang::comm
