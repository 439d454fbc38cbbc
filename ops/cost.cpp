// What calls cost where that isn't reading or writing every view once: for rehearsals and profiles.

#include "ops/attention.h"
#include "ops/embedding.h"
#include "ops/loss.h"
#include "ops/matmul.h"
#include "ops/norm.h"
#include "ops/optim.h"

namespace dujiang::ops {
namespace {

double bytes_of(const View& view) {
  return view.defined() ? static_cast<double>(view.bytes()) : 0;
}

OpCost matmul_cost(const View& a, const View& b, const View& c, bool accumulate) {
  return {.flops = 2.0 * static_cast<double>(c.count()) * static_cast<double>(a.shape[-1]),
          .bytes = bytes_of(a) + bytes_of(b) + bytes_of(c) * (accumulate ? 2 : 1),
          .dtype = a.dtype};
}

// Pairs of a query and a key that it sees, over all segments.
double visible_pairs(const Segments& segments) {
  double pairs = 0;
  for (std::size_t s = 0; s < segments.count(); ++s) {
    const double m = segments.query_offsets[s + 1] - segments.query_offsets[s];
    const double n = segments.key_end(s) - segments.key_offsets[s];
    pairs += m * n - m * (m - 1) / 2;
  }
  return pairs;
}

// Two products a pair and head forward (q·k, p·v), five backward (q·k again, do·v, and those of dq, dk, dv).
OpCost attention_cost(const View& q, const View& k, const View& v, const Segments& segments, float, const View& o,
                      const View& lse) {
  return {.flops = 2 * 2.0 * visible_pairs(segments) * static_cast<double>(q.shape[1] * q.shape[2]),
          .bytes = bytes_of(q) + bytes_of(k) + bytes_of(v) + bytes_of(o) + bytes_of(lse),
          .dtype = q.dtype,
          .attention = true};
}

OpCost attention_backward_cost(const View& d_o, const View& q, const View& k, const View& v, const View& o,
                               const View& lse, const Segments& segments, float, const View& dq, const View& dk,
                               const View& dv) {
  return {.flops = 5 * 2.0 * visible_pairs(segments) * static_cast<double>(q.shape[1] * q.shape[2]),
          .bytes = bytes_of(d_o) + bytes_of(q) + bytes_of(k) + bytes_of(v) + bytes_of(o) + bytes_of(lse) +
                   bytes_of(dq) + bytes_of(dk) + bytes_of(dv),
          .dtype = q.dtype,
          .attention = true};
}

OpCost embedding_cost(const View&, const View&, const View& y) {
  return {.bytes = 2 * bytes_of(y)};
}

OpCost embedding_backward_cost(const View&, const View& dy, const View& dtable, bool accumulate) {
  return {.bytes = bytes_of(dy) + 8.0 * static_cast<double>(dy.count()) + (accumulate ? 0 : bytes_of(dtable))};
}

OpCost softmax_cross_entropy_cost(const View& logits, const View&, const View&, std::int64_t, float, bool gradient,
                                  const View&) {
  return {.bytes = bytes_of(logits) * (gradient ? 2 : 1)};
}

// Read and overwritten.
OpCost softmax_gradient_cost(const View& logits, const View&, const View&, std::int64_t, std::int64_t, float,
                             const View&) {
  return {.bytes = 2 * bytes_of(logits)};
}

// Without a norm x isn't read.
OpCost norm_rope_backward_cost(const View& dy, const View& x, const View& weight, const View& rstd, const View& table,
                               const View& positions, const View& dx, const View& dweight, bool accumulate) {
  const double norm = weight.defined() ? bytes_of(x) + bytes_of(weight) + bytes_of(rstd) : 0;
  return {.bytes = bytes_of(dy) + norm + bytes_of(table) + bytes_of(positions) + bytes_of(dx) +
                   bytes_of(dweight) * (accumulate ? 2 : 1)};
}

OpCost adamw_cost(const View& master, const View& m, const View& v, const View& grad, const View& param,
                  const AdamwStep&) {
  const bool split = master.dtype == Dtype::u16;
  return {.bytes =
              2 * (bytes_of(master) + bytes_of(m) + bytes_of(v)) + bytes_of(grad) + bytes_of(param) * (split ? 2 : 1)};
}

[[maybe_unused]] const bool stated =
    matmul.set_cost(matmul_cost) && attention.set_cost(attention_cost) &&
    attention_backward.set_cost(attention_backward_cost) && embedding.set_cost(embedding_cost) &&
    embedding_backward.set_cost(embedding_backward_cost) &&
    softmax_cross_entropy.set_cost(softmax_cross_entropy_cost) && softmax_gradient.set_cost(softmax_gradient_cost) &&
    norm_rope_backward.set_cost(norm_rope_backward_cost) && adamw.set_cost(adamw_cost);

}  // namespace
}  // namespace dujiang::ops
