#include "framework/autograd/functions.h"
#include "ops/embedding.h"

namespace dujiang::fn {

Tensor embedding(const Tensor& tokens, const Tensor& table) {
  autograd::check_storage("embedding", table);
  Tensor y = Tensor::empty({tokens.size(0), table.size(1)}, table.dtype(), table.device());
  ops::embedding(default_stream(table.device()), tokens, table, y);
  return autograd::record(
      "embedding", {tokens, table}, y,
      [tokens = tokens.detached(), shape = table.shape(), dtype = table.dtype()](autograd::Gradients& g) {
        auto& stream = default_stream(g.output().device());
        if (g.needs_leaf(1)) {
          const auto slot = g.slot(1);
          ops::embedding_backward(stream, tokens, g.output(), slot.tensor, slot.accumulate);
        } else {
          Tensor dtable = Tensor::empty(shape, Dtype::f32, g.output().device());
          ops::embedding_backward(stream, tokens, g.output(), dtable, false);
          g.add(1, dtable.to(dtype));
        }
      });
}

}  // namespace dujiang::fn
