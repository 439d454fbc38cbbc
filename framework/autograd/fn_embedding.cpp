#include "framework/autograd/functions.h"
#include "ops/embedding.h"

namespace dujiang::fn {

Tensor embedding(const Tensor& tokens, const Tensor& table) {
  Tensor y = Tensor::empty({tokens.size(0), table.size(1)}, table.dtype(), table.device());
  ops::embedding(default_stream(table.device()), tokens, table, y);
  return autograd::record("embedding", {tokens, table}, y,
                          [tokens = tokens.detached(), table = table.detached()](autograd::Gradients& g) {
                            auto& stream = default_stream(table.device());
                            if (g.needs_leaf(1)) {
                              const auto slot = g.slot(1);
                              ops::embedding_backward(stream, tokens, g.output(), slot.tensor, slot.accumulate);
                            } else {
                              Tensor dtable = Tensor::empty(table.shape(), Dtype::f32, table.device());
                              ops::embedding_backward(stream, tokens, g.output(), dtable, false);
                              g.add(1, dtable.to(table.dtype()));
                            }
                          });
}

}  // namespace dujiang::fn
