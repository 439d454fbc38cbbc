#include <algorithm>

#include "framework/autograd/functions.h"
#include "ops/attention.h"
#include "ops/matmul.h"
#include "ops/norm.h"

namespace dujiang::fn {
namespace {

// One slice of a linear function; all operands packed.
struct LinearSlice {
  Tensor x, weight;
  LinearSlice(const Tensor& whole_x, const Tensor& whole_weight, const Slicing& slicing, int i) {
    const int count = slicing.slices.local;
    const bool out = slicing.axis == SlicedAxis::out;
    x = packed(out ? whole_x : slice_of(whole_x, 1, i, count));
    weight = packed(slice_of(whole_weight, out ? 0 : 1, i, count));
  }
};

// a·b into fresh memory.
Tensor product(const Tensor& a, const Tensor& b, Dtype dtype) {
  Tensor c = Tensor::empty({a.size(0), b.size(1)}, dtype, a.device());
  ops::matmul(default_stream(a.device()), a, b, c, false);
  return c;
}

void linear_backward(autograd::Gradients& g, const Tensor& x, const Tensor& weight, const Slicing& slicing) {
  const Slices& slices = slicing.slices;
  const bool out = slicing.axis == SlicedAxis::out;
  const Tensor dy = packed(g.output());
  auto& stream = default_stream(dy.device());
  const bool sums = g.needs(0) && out && slices.counts;
  Tensor dx, partials, dw;
  if (g.needs(0) && out) partials = Tensor::empty({slices.local, x.size(0), x.size(1)}, Dtype::f32, x.device());
  if (g.needs(0) && !out) dx = Tensor::empty_like(x);
  bool accumulate = false;
  if (g.needs_leaf(1)) {
    const auto slot = g.slot(1);
    dw = slot.tensor;
    accumulate = slot.accumulate;
  } else if (g.needs(1)) {
    dw = Tensor::empty(weight.shape(), Dtype::f32, weight.device());
  }
  each_slice(slices.local, [&](int i) {
    const LinearSlice slice(x, weight, slicing, i);
    const Tensor dy_slice = out ? packed(slice_of(dy, 1, i, slices.local)) : dy;
    if (sums) {
      const Tensor partial = partials.narrow(0, i, 1).view(x.shape());
      ops::matmul(stream, dy_slice, slice.weight, partial, false);
    } else if (dx.defined()) {
      slice_of(dx, 1, i, slices.local).copy_from(product(dy_slice, slice.weight, x.dtype()));
    }
    if (!dw.defined()) return;
    // By way of packed memory: where the gradient lies in wider rows depends on the layout.
    const Tensor part = product(dy_slice.transpose(0, 1), slice.x, Dtype::f32);
    put(slice_of(dw, out ? 0 : 1, i, slices.local), part, accumulate);
  });
  if (partials.defined()) dx = tree_sum(partials, slices).to(x.dtype());
  if (dx.defined()) g.add(0, dx);
  if (dw.defined() && !g.needs_leaf(1)) g.add(1, dw.to(weight.dtype()));
}

}  // namespace

Tensor linear(const Tensor& x, const Tensor& weight, const Slicing& slicing) {
  DUJIANG_CHECK(x.shape().rank() == 2 && weight.shape().rank() == 2 && x.size(1) == weight.size(1),
                "linear: x {} and weight {}: expected [n, k] and [m, k]", x.str(), weight.str());
  const auto saved_x = autograd::save("linear", x), saved_w = autograd::save("linear", weight);
  const std::int64_t n = x.size(0), m = weight.size(0);
  const int count = slicing.slices.local;
  Tensor y;
  if (slicing.axis == SlicedAxis::out) {
    y = Tensor::empty({n, m}, x.dtype(), x.device());
    const Tensor rows = packed(x);
    each_slice(count, [&](int i) {
      const LinearSlice slice(rows, weight, slicing, i);
      slice_of(y, 1, i, count).copy_from(product(slice.x, slice.weight.transpose(0, 1), x.dtype()));
    });
  } else {
    const Tensor partials = Tensor::empty({count, n, m}, Dtype::f32, x.device());
    each_slice(count, [&](int i) {
      const LinearSlice slice(x, weight, slicing, i);
      const Tensor partial = partials.narrow(0, i, 1).view({n, m});
      ops::matmul(default_stream(x.device()), slice.x, slice.weight.transpose(0, 1), partial, false);
    });
    y = tree_sum(partials, slicing.slices).to(x.dtype());
  }
  return autograd::record("linear", {x, weight}, y, [saved_x, saved_w, slicing](autograd::Gradients& g) {
    linear_backward(g, packed(saved_x.get()), saved_w.get(), slicing);
  });
}

namespace {

// Which heads a slice works on.
struct HeadSlices {
  std::int64_t heads;              // query heads of a slice
  std::int64_t keys;               // key heads that it reads
  std::int64_t sharing;            // slices that read one key head
  std::int64_t key_count, slices;  // in all

  HeadSlices(const Tensor& q, const Tensor& k, int local) : key_count(k.size(1)), slices(local) {
    const std::int64_t group = q.size(1) / k.size(1);
    heads = q.size(1) / local;
    DUJIANG_CHECK(
        q.size(1) % k.size(1) == 0 && q.size(1) % local == 0 && heads > 0 && (heads % group == 0 || group % heads == 0),
        "attention in {} slices: {} query heads and {} key heads: a slice has {} heads, neither a multiple "
        "nor a divisor of those that share a key head",
        local, q.size(1), k.size(1), heads);
    keys = std::max<std::int64_t>(heads / group, 1);
    sharing = std::max<std::int64_t>(group / heads, 1);
  }
  Tensor queries_of(const Tensor& x, int i) const { return x.narrow(1, i * heads, heads); }
  Tensor keys_of(const Tensor& x, int i) const { return x.narrow(1, i / sharing * keys, keys); }
  // Partial gradients of keys and values: [sharing, 2, n, key_count, d].
  Tensor partial_of(const Tensor& partials, int i, int which) const {
    const Shape& s = partials.shape();
    return keys_of(partials.narrow(0, i % sharing, 1).narrow(1, which, 1).view({s[2], s[3], s[4]}), i);
  }
};

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Offsets& query_offsets,
                 const Offsets& key_offsets, float scale, const Slices& slices) {
  const auto saved_q = autograd::save("attention", q), saved_k = autograd::save("attention", k),
             saved_v = autograd::save("attention", v);
  const HeadSlices cut(q, k, slices.local);
  Tensor o = Tensor::empty_like(q), lse = Tensor::empty({q.size(0), q.size(1)}, Dtype::f32, q.device());
  each_slice(slices.local, [&](int i) {
    ops::attention(default_stream(q.device()), cut.queries_of(q, i), cut.keys_of(k, i), cut.keys_of(v, i),
                   {*query_offsets, *key_offsets}, scale, cut.queries_of(o, i), cut.queries_of(lse, i));
  });
  return autograd::record(
      "attention", {q, k, v}, o,
      [saved_q, saved_k, saved_v, o = o.detached(), lse, query_offsets, key_offsets, scale, slices,
       cut](autograd::Gradients& g) {
        const Tensor q = saved_q.get(), k = saved_k.get(), v = saved_v.get(), d_o = g.output();
        const Tensor dq = Tensor::empty_like(q), dk = Tensor::empty_like(k), dv = Tensor::empty_like(v);
        const Tensor partials =
            Tensor::empty({cut.sharing, 2, k.size(0), cut.key_count, k.size(2)}, Dtype::f32, k.device());
        each_slice(slices.local, [&](int i) {
          ops::attention_backward(default_stream(q.device()), cut.queries_of(d_o, i), cut.queries_of(q, i),
                                  cut.keys_of(k, i), cut.keys_of(v, i), cut.queries_of(o, i), cut.queries_of(lse, i),
                                  {*query_offsets, *key_offsets}, scale, cut.queries_of(dq, i),
                                  cut.partial_of(partials, i, 0), cut.partial_of(partials, i, 1));
        });
        const Tensor sums = tree_sum(partials, slices);
        dk.copy_from(sums.narrow(0, 0, 1).view(k.shape()));
        dv.copy_from(sums.narrow(0, 1, 1).view(k.shape()));
        g.add(0, dq);
        g.add(1, dk);
        g.add(2, dv);
      });
}

Tensor norm_rope(const Tensor& x, const Tensor& weight, float eps, const Tensor& table, const Tensor& positions,
                 const Slices& heads) {
  if (!weight.defined()) return norm_rope(x, weight, eps, table, positions);  // nothing to add up
  const auto saved_x = autograd::save("norm_rope", x), saved_w = autograd::save("norm_rope", weight);
  Tensor y = Tensor::empty_like(x), rstd = Tensor::empty({x.size(0), x.size(1)}, Dtype::f32, x.device());
  ops::norm_rope(default_stream(x.device()), x, weight, eps, table, positions, y, rstd);
  return autograd::record(
      "norm_rope", {x, weight}, y, [saved_x, saved_w, rstd, table, positions, heads](autograd::Gradients& g) {
        const Tensor x = saved_x.get(), w = saved_w.get(), dy = g.output(), dx = Tensor::empty_like(x);
        const Tensor partials = Tensor::empty({heads.local, w.count()}, Dtype::f32, x.device());
        each_slice(heads.local, [&](int i) {
          const auto cut = [&](const Tensor& t) { return slice_of(t, 1, i, heads.local); };
          ops::norm_rope_backward(default_stream(x.device()), cut(dy), cut(x), w, packed(cut(rstd)), table, positions,
                                  cut(dx), partials.narrow(0, i, 1).view(w.shape()), false);
        });
        g.add(0, dx);
        if (!g.needs(1)) return;
        const Tensor dw = tree_sum(partials, heads);
        g.add(1, g.needs_leaf(1) ? dw : dw.to(w.dtype()));
      });
}

}  // namespace dujiang::fn
