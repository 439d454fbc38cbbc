#include "ops/reference/attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "ops/reference/access.h"

namespace dujiang::ops::reference {
namespace {

/// Calls body(query, head, key head, first key, keys seen) for every row of q.
template <class Body>
void for_each_row(const View& q, const View& k, const Segments& segments, Body&& body) {
  const auto group = q.shape[1] / k.shape[1];
  for (std::size_t s = 0; s + 1 < segments.query_offsets.size(); ++s) {
    const std::int64_t query = segments.query_offsets[s], queries = segments.query_offsets[s + 1] - query;
    const std::int64_t key = segments.key_offsets[s], keys = segments.key_offsets[s + 1] - key;
    for (std::int64_t i = 0; i < queries; ++i)
      for (std::int64_t h = 0; h < q.shape[1]; ++h) body(query + i, h, h / group, key, keys - queries + i + 1);
  }
}

double dot(const View& a, std::int64_t i, std::int64_t head_a, const View& b, std::int64_t j, std::int64_t head_b) {
  double sum = 0;
  for (std::int64_t x = 0; x < a.shape[2]; ++x) sum += get(a, {i, head_a, x}) * get(b, {j, head_b, x});
  return sum;
}

/// += into an f64 copy of a view's shape.
struct Sum {
  explicit Sum(const View& like)
      : values(static_cast<std::size_t>(like.count())), view(values.data(), Dtype::f64, like.shape) {}
  void add(std::int64_t i, std::int64_t head, std::int64_t x, double value) {
    set(view, {i, head, x}, get(view, {i, head, x}) + value);
  }
  void write(const View& to) const {
    for (std::int64_t i = 0; i < to.count(); ++i) store(to, nth(to, i), values[static_cast<std::size_t>(i)]);
  }
  std::vector<double> values;
  View view;
};

}  // namespace

void attention(const View& q, const View& k, const View& v, const Segments& segments, float scale, const View& o,
               const View& lse) {
  std::vector<double> p;
  for_each_row(q, k, segments,
               [&](std::int64_t i, std::int64_t h, std::int64_t kv_head, std::int64_t first, std::int64_t seen) {
                 p.resize(static_cast<std::size_t>(seen));
                 double most = -INFINITY, total = 0;
                 for (std::int64_t j = 0; j < seen; ++j) {
                   p[static_cast<std::size_t>(j)] = scale * dot(q, i, h, k, first + j, kv_head);
                   most = std::max(most, p[static_cast<std::size_t>(j)]);
                 }
                 for (double& x : p) total += x = std::exp(x - most);
                 for (std::int64_t x = 0; x < q.shape[2]; ++x) {
                   double sum = 0;
                   for (std::int64_t j = 0; j < seen; ++j)
                     sum += p[static_cast<std::size_t>(j)] * get(v, {first + j, kv_head, x});
                   set(o, {i, h, x}, sum / total);
                 }
                 if (lse.defined()) set(lse, {i, h}, most + std::log(total));
               });
}

void attention_backward(const View& d_o, const View& q, const View& k, const View& v, const View& o, const View& lse,
                        const Segments& segments, float scale, const View& dq, const View& dk, const View& dv) {
  Sum sum_q(dq), sum_k(dk), sum_v(dv);
  for_each_row(q, k, segments,
               [&](std::int64_t i, std::int64_t h, std::int64_t kv_head, std::int64_t first, std::int64_t seen) {
                 const double delta = dot(d_o, i, h, o, i, h);
                 for (std::int64_t j = first; j < first + seen; ++j) {
                   const double p = std::exp(scale * dot(q, i, h, k, j, kv_head) - get(lse, {i, h}));
                   const double ds = scale * p * (dot(d_o, i, h, v, j, kv_head) - delta);
                   for (std::int64_t x = 0; x < q.shape[2]; ++x) {
                     sum_q.add(i, h, x, ds * get(k, {j, kv_head, x}));
                     sum_k.add(j, kv_head, x, ds * get(q, {i, h, x}));
                     sum_v.add(j, kv_head, x, p * get(d_o, {i, h, x}));
                   }
                 }
               });
  sum_q.write(dq);
  sum_k.write(dk);
  sum_v.write(dv);
}

}  // namespace dujiang::ops::reference
