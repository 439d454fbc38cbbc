#pragma once
// The one order in which host memory is reduced, shared by every host transport.

#include <cstdint>

#include "comm/communicator.h"

namespace dujiang::comm {

/// Whether reduce_tree takes this: f32, bf16, f16, f64 with every reduction; i32, i64, u8 with all but avg.
bool can_reduce(Dtype dtype, Reduce reduce);

/// receive[i] = reduction of sources[0][i] ... sources[n - 1][i] along the tree over 0 ... n - 1 that splits at the
/// largest power of two below n: (((0 1) (2 3)) 4) for five. Partials of f32, bf16 and f16 are f32, of f64 f64; one
/// rounding at the end; avg divides the sum by n before it. `receive` may be one of the sources, not overlap one
/// otherwise. n is at most 2^30. One thread, no allocation beyond a few blocks that fit the cache.
void reduce_tree(Dtype dtype, Reduce reduce, const void* const* sources, int n, void* receive, std::int64_t count);

}  // namespace dujiang::comm
