#include "framework/autograd/functions.h"
#include "ops/attention.h"

namespace dujiang::fn {

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Offsets& query_offsets,
                 const Offsets& key_offsets, float scale) {
  const auto saved_q = autograd::save("attention", q), saved_k = autograd::save("attention", k),
             saved_v = autograd::save("attention", v);
  Tensor o = Tensor::empty_like(q);
  const bool recording = autograd::recording({q, k, v});
  Tensor lse;
  if (recording) lse = Tensor::empty({q.size(0), q.size(1)}, Dtype::f32, q.device());
  ops::attention(default_stream(q.device()), q, k, v, {*query_offsets, *key_offsets}, scale, o, lse);
  return autograd::record(
      "attention", {q, k, v}, o,
      [saved_q, saved_k, saved_v, o = o.detached(), lse, query_offsets, key_offsets, scale](autograd::Gradients& g) {
        const Tensor q = saved_q.get(), k = saved_k.get(), v = saved_v.get();
        Tensor dq = Tensor::empty_like(q);
        Tensor dk = Tensor::empty_like(k);
        Tensor dv = Tensor::empty_like(v);
        ops::attention_backward(default_stream(q.device()), g.output(), q, k, v, o, lse, {*query_offsets, *key_offsets},
                                scale, dq, dk, dv);
        g.add(0, dq);
        g.add(1, dk);
        g.add(2, dv);
      });
}

}  // namespace dujiang::fn
