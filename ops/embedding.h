#pragma once
// Table look-up.

#include "framework/base/view.h"
#include "ops/kernel.h"

namespace dujiang::ops {

/// y[i] = table[tokens[i]]. tokens i32 [n]; table [v, d] and y [n, d] of one dtype f32, bf16 or f16. Token -1 stands
/// for a row that the table hasn't (another rank has it): all -0, which changes no bit of what it is added to. Any
/// other token outside [0, v) is an Error that names its index and value.
extern Kernel<void(const View& tokens, const View& table, const View& y)> embedding;

/// dtable[tokens[i]] += dy[i] in order of i, without atomics, tokens of -1 left out; where not `accumulate`, dtable is
/// zeroed first.
/// dy [n, d]; dtable f32 [v, d].
extern Kernel<void(const View& tokens, const View& dy, const View& dtable, bool accumulate)> embedding_backward;

}  // namespace dujiang::ops
