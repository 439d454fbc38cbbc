#include "framework/autograd/recompute.h"

namespace dujiang::autograd {
namespace {

// x as the body's input in its second run. A leaf is itself; what has a gradient otherwise gets a node that takes it.
// That node makes it no leaf: gradients of leaves add up in f32, all others in their own dtype.
Tensor input_again(const Gradients& g, const Saved& x, const std::shared_ptr<Meta>& leaf, Tensor& gradient) {
  Tensor again = x.get().detached();
  if (leaf) {
    again.set_meta(leaf);
  } else if (g.needs(0)) {
    record_always("recompute", {}, std::span(&again, 1), [&gradient](Gradients& inner) { gradient = inner.output(); });
  }
  return again;
}

}  // namespace

Tensor recompute(const Tensor& x, const std::function<Tensor(const Tensor&)>& body, bool leaves_inside) {
  if (!recording() || (!x.meta() && !leaves_inside)) return body(x);
  const Saved saved = save("recompute", x);
  Tensor y;
  {
    const NoGrad guard;
    y = body(x.detached()).detached();
  }
  const auto leaf = x.meta() && !x.meta()->producer ? x.meta() : nullptr;
  record_always("recompute", std::span(&x, 1), std::span(&y, 1), [saved, leaf, body](Gradients& g) {
    const SetRecording on(true);
    const std::uint64_t floor = next_sequence_number();
    Tensor gradient;
    const Tensor again = body(input_again(g, saved, leaf, gradient));
    // Without a place in the graph, nothing inside wanted a gradient.
    if (again.meta()) backward_down_to(floor, again, g.output());
    if (gradient.defined()) g.add(0, gradient);
  });
  return y;
}

}  // namespace dujiang::autograd
