#include "ops/reference/attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "ops/reference/access.h"

namespace dujiang::ops::reference {
namespace {

/// The values of a view [n, heads, d] or [n, heads].
class Dense {
 public:
  explicit Dense(const View& view) : heads_(view.shape[1]), dim_(view.shape.rank() > 2 ? view.shape[2] : 1) {
    values_.reserve(static_cast<std::size_t>(view.count()));
    for (std::int64_t i = 0; i < view.count(); ++i) values_.push_back(load(view, nth(view, i)));
  }
  double* row(std::int64_t i, std::int64_t head) { return values_.data() + (i * heads_ + head) * dim_; }
  void write(const View& to) const {
    for (std::int64_t i = 0; i < to.count(); ++i) store(to, nth(to, i), values_[static_cast<std::size_t>(i)]);
  }
  void clear() { std::fill(values_.begin(), values_.end(), 0.0); }

 private:
  std::vector<double> values_;
  std::int64_t heads_, dim_;
};

double dot(const double* a, const double* b, std::int64_t n) {
  double sum = 0;
  for (std::int64_t x = 0; x < n; ++x) sum += a[x] * b[x];
  return sum;
}

/// Calls body(query, head, key head, first key, keys seen) for every row of q.
template <class Body>
void for_each_row(const View& q, const View& k, const Segments& segments, Body&& body) {
  const auto group = q.shape[1] / k.shape[1];
  for (std::size_t s = 0; s < segments.count(); ++s) {
    const std::int64_t query = segments.query_offsets[s], queries = segments.query_offsets[s + 1] - query;
    const std::int64_t key = segments.key_offsets[s], keys = segments.key_end(s) - key;
    for (std::int64_t i = 0; i < queries; ++i)
      for (std::int64_t h = 0; h < q.shape[1]; ++h) body(query + i, h, h / group, key, keys - queries + i + 1);
  }
}

}  // namespace

void attention(const View& q, const View& k, const View& v, const Segments& segments, float scale, const View& o,
               const View& lse) {
  const std::int64_t d = q.shape[2];
  Dense of_q(q), of_k(k), of_v(v);
  std::vector<double> p, sum(static_cast<std::size_t>(d));
  for_each_row(q, k, segments,
               [&](std::int64_t i, std::int64_t h, std::int64_t kv_head, std::int64_t first, std::int64_t seen) {
                 p.clear();
                 for (std::int64_t j = first; j < first + seen; ++j)
                   p.push_back(scale * dot(of_q.row(i, h), of_k.row(j, kv_head), d));
                 const double most = *std::max_element(p.begin(), p.end());
                 double total = 0;
                 std::fill(sum.begin(), sum.end(), 0.0);
                 for (std::int64_t j = 0; j < seen; ++j) {
                   const double weight = std::exp(p[static_cast<std::size_t>(j)] - most);
                   total += weight;
                   for (std::int64_t x = 0; x < d; ++x)
                     sum[static_cast<std::size_t>(x)] += weight * of_v.row(first + j, kv_head)[x];
                 }
                 for (std::int64_t x = 0; x < d; ++x) set(o, {i, h, x}, sum[static_cast<std::size_t>(x)] / total);
                 if (lse.defined()) set(lse, {i, h}, most + std::log(total));
               });
}

void attention_backward(const View& d_o, const View& q, const View& k, const View& v, const View& o, const View& lse,
                        const Segments& segments, float scale, const View& dq, const View& dk, const View& dv) {
  const std::int64_t d = q.shape[2];
  Dense of_do(d_o), of_q(q), of_k(k), of_v(v), of_o(o), of_lse(lse), of_dq(dq), of_dk(dk), of_dv(dv);
  for (Dense* gradient : {&of_dq, &of_dk, &of_dv}) gradient->clear();
  for_each_row(q, k, segments,
               [&](std::int64_t i, std::int64_t h, std::int64_t kv_head, std::int64_t first, std::int64_t seen) {
                 const double delta = dot(of_do.row(i, h), of_o.row(i, h), d);
                 for (std::int64_t j = first; j < first + seen; ++j) {
                   const double p = std::exp(scale * dot(of_q.row(i, h), of_k.row(j, kv_head), d) - *of_lse.row(i, h));
                   const double ds = scale * p * (dot(of_do.row(i, h), of_v.row(j, kv_head), d) - delta);
                   for (std::int64_t x = 0; x < d; ++x) {
                     of_dq.row(i, h)[x] += ds * of_k.row(j, kv_head)[x];
                     of_dk.row(j, kv_head)[x] += ds * of_q.row(i, h)[x];
                     of_dv.row(j, kv_head)[x] += p * of_do.row(i, h)[x];
                   }
                 }
               });
  of_dq.write(dq);
  of_dk.write(dk);
  of_dv.write(dv);
}

}  // namespace dujiang::ops::reference
