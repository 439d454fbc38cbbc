#include "framework/parallel/collective_fns.h"

#include "framework/autograd/node.h"

namespace dujiang::parallel {
namespace {

// Each rank's rows one after the other.
Tensor gathered(const Tensor& x, comm::Communicator& ranks) {
  const Tensor from = x.contiguous() ? x.detached() : x.clone();
  Shape shape = x.shape();
  shape[0] *= ranks.size();
  Tensor y = Tensor::empty(shape, x.dtype(), x.device());
  auto& stream = default_stream(x.device());
  ranks.all_gather(comm::buffer_of(from), comm::buffer_of(y), stream).wait(stream);
  return y;
}

Tensor summed(const Tensor& x, comm::Communicator& ranks) {
  const Tensor from = x.contiguous() ? x.detached() : x.clone();
  Tensor y = Tensor::empty_like(x);
  auto& stream = default_stream(x.device());
  ranks.all_reduce(comm::buffer_of(from), comm::buffer_of(y), comm::Reduce::sum, stream).wait(stream);
  return y;
}

Tensor summed_rows(const Tensor& x, comm::Communicator& ranks) {
  DUJIANG_CHECK(x.size(0) % ranks.size() == 0, "{} rows over {} ranks", x.str(), ranks.size());
  const Tensor from = x.contiguous() ? x.detached() : x.clone();
  Shape shape = x.shape();
  shape[0] /= ranks.size();
  Tensor y = Tensor::empty(shape, x.dtype(), x.device());
  auto& stream = default_stream(x.device());
  ranks.reduce_scatter(comm::buffer_of(from), comm::buffer_of(y), comm::Reduce::sum, stream).wait(stream);
  return y;
}

}  // namespace

Tensor copy_to_ranks(const Tensor& x, comm::Communicator& ranks) {
  const auto saved = autograd::save("copy_to_ranks", x);
  const Tensor y = autograd::record("copy_to_ranks", {x}, x.detached(),
                                    [&ranks](autograd::Gradients& g) { g.add(0, summed(g.output(), ranks)); });
  autograd::rebuildable(y, [saved] { return saved.get(); });  // keeps what who saves x keeps
  return y;
}

Tensor sum_over_ranks(const Tensor& x, comm::Communicator& ranks) {
  return autograd::record("sum_over_ranks", {x}, summed(x, ranks),
                          [](autograd::Gradients& g) { g.add(0, g.output()); });
}

Tensor gather_rows(const Tensor& x, comm::Communicator& ranks) {
  const auto saved = autograd::save("gather_rows", x);
  const Tensor y = autograd::record("gather_rows", {x}, gathered(x, ranks),
                                    [&ranks](autograd::Gradients& g) { g.add(0, summed_rows(g.output(), ranks)); });
  autograd::rebuildable(y, [saved, &ranks] { return gathered(saved.get(), ranks); });
  return y;
}

Tensor sum_and_cut_rows(const Tensor& x, comm::Communicator& ranks) {
  return autograd::record("sum_and_cut_rows", {x}, summed_rows(x, ranks),
                          [&ranks](autograd::Gradients& g) { g.add(0, gathered(g.output(), ranks)); });
}

Tensor all_gather_rows(const Tensor& x, comm::Communicator& ranks) {
  return gathered(x, ranks);
}

void all_reduce(const Tensor& x, comm::Communicator& ranks, comm::Reduce reduce) {
  if (ranks.size() == 1) return;
  auto& stream = default_stream(x.device());
  ranks.all_reduce(comm::buffer_of(x), reduce, stream).wait(stream);
}

}  // namespace dujiang::parallel
