#pragma once
// Activations that are computed again in the backward pass instead of being kept (Chen et al., "Training Deep Nets with
// Sublinear Memory Cost", 2016).

#include <functional>

#include "framework/autograd/node.h"

namespace dujiang::autograd {

/// body(x), of which only x is kept: backward runs body once more, records it, and goes through it at once, so that
/// the gradients of leaves inside go where they always do. The same bits as body(x), as long as x has no other use.
///
/// Everything else that needs a gradient inside body must be a leaf; leaves may be rebound in between. `leaves_inside`
/// says whether there are any: without, nothing is kept where x wants no gradient. May be nested.
Tensor recompute(const Tensor& x, const std::function<Tensor(const Tensor&)>& body, bool leaves_inside = true);

}  // namespace dujiang::autograd
