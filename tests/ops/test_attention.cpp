#include <boost/test/unit_test.hpp>

#include <cmath>
#include <numeric>

#include "framework/base/threads.h"
#include "ops/attention.h"
#include "ops/reference/access.h"
#include "ops/reference/attention.h"
#include "tests/support/draw.h"
#include "tests/support/views.h"

using namespace dujiang;
using namespace dujiang::test;
namespace reference = ops::reference;

namespace {

Stream cpu{Device{}};

std::vector<std::int32_t> offsets(const std::vector<std::int32_t>& lengths) {
  std::vector<std::int32_t> sums(lengths.size() + 1, 0);
  std::partial_sum(lengths.begin(), lengths.end(), sums.begin() + 1);
  return sums;
}

/// Where q, k and v lie: each alone, each with gaps, all three in one buffer as a fused projection writes them, or as
/// Draw::strided has it.
enum class Home { contiguous, padded, fused, drawn };

struct Case {
  std::vector<std::int32_t> query_lengths, key_lengths;
  std::int64_t heads, kv_heads, dim;
  Dtype dtype = Dtype::f32;
  Home home = Home::contiguous;
  std::uint64_t seed = 0;  ///< of what is drawn

  std::string str() const {
    std::string lengths;
    for (std::size_t s = 0; s < query_lengths.size(); ++s)
      lengths += fmt::format("{}/{} ", query_lengths[s], key_lengths[s]);
    return fmt::format("{} queries/keys {}heads {}/{} d {} layout {} seed {}", name_of(dtype), lengths, heads, kv_heads,
                       dim, static_cast<int>(home), seed);
  }
};

Case same(std::vector<std::int32_t> lengths, std::int64_t heads, std::int64_t kv_heads, std::int64_t dim) {
  return {lengths, lengths, heads, kv_heads, dim};
}

struct Problem {
  explicit Problem(const Case& c) : queries(offsets(c.query_lengths)), keys(offsets(c.key_lengths)) {
    const std::int64_t n = queries.back(), m = keys.back();
    scale = 1 / std::sqrt(static_cast<float>(c.dim));
    Draw draw(c.seed);
    const auto place = [&](Dtype dtype, Shape shape) {
      return c.home == Home::drawn ? draw.strided(dtype, shape, true)
                                   : empty(dtype, shape, c.home == Home::padded ? Layout::padded : Layout::contiguous);
    };
    if (c.home == Home::fused && n == m) {
      q = fused(n, c);
      k = v = o = q;
      q.view = q.view.narrowed(1, 0, c.heads);
      k.view = k.view.narrowed(1, c.heads, c.kv_heads);
      v.view = v.view.narrowed(1, c.heads + c.kv_heads, c.kv_heads);
      dq = dk = dv = empty(c.dtype, {n, c.heads + 2 * c.kv_heads, c.dim});
      dq.view = dq.view.narrowed(1, 0, c.heads);
      dk.view = dk.view.narrowed(1, c.heads, c.kv_heads);
      dv.view = dv.view.narrowed(1, c.heads + c.kv_heads, c.kv_heads);
    } else {
      q = randomized(place(c.dtype, {n, c.heads, c.dim}), 1 + c.seed);
      k = randomized(place(c.dtype, {m, c.kv_heads, c.dim}), 2 + c.seed);
      v = randomized(place(c.dtype, {m, c.kv_heads, c.dim}), 3 + c.seed);
      dq = place(c.dtype, q.view.shape);
      dk = place(c.dtype, k.view.shape);
      dv = place(c.dtype, v.view.shape);
    }
    o = place(c.dtype, {n, c.heads, c.dim});
    lse = place(Dtype::f32, {n, c.heads});
    d_o = randomized(place(c.dtype, {n, c.heads, c.dim}), 4 + c.seed);
    // Rows that outweigh all others: without one of them the result is far off, however many keys there are.
    if (c.home == Home::drawn)
      for (const Array& x : {v, d_o})
        for (std::int64_t i = draw.below(8); i < x.view.shape[0]; i += 1 + draw.below(8))
          for_each_offset(x.view.narrowed(0, i, 1), [&](std::int64_t offset) {
            const std::int64_t at = i * x.view.strides[0] + offset;
            set_element(x, at, 64 * element(x, at));
          });
  }
  static Array fused(std::int64_t n, const Case& c) { return random(c.dtype, {n, c.heads + 2 * c.kv_heads, c.dim}, 1); }
  ops::Segments segments() const { return {queries, keys}; }
  void forward() const { ops::attention(cpu, q, k, v, segments(), scale, o, lse); }
  void backward() const { ops::attention_backward(cpu, d_o, q, k, v, o, lse, segments(), scale, dq, dk, dv); }

  std::vector<std::int32_t> queries, keys;
  float scale;
  Array q, k, v, o, lse, d_o, dq, dk, dv;
};

/// Sums of the magnitudes of all terms that go into each result: what rounding errors are proportional to.
struct Magnitudes {
  double score = 0;   ///< the largest scale * sum |q||k|
  double length = 0;  ///< the most keys
  Array o, dq, dk, dv;

  Magnitudes(const Problem& p, const View& out, const View& lse)
      : o(constant(Dtype::f64, p.q.view.shape, 0)),
        dq(constant(Dtype::f64, p.q.view.shape, 0)),
        dk(constant(Dtype::f64, p.k.view.shape, 0)),
        dv(constant(Dtype::f64, p.v.view.shape, 0)) {
    const std::int64_t heads = p.q.view.shape[1], kv_heads = p.k.view.shape[1], dim = p.q.view.shape[2];
    const auto q = values(p.q), k = values(p.k), v = values(p.v), d_o = values(p.d_o), ends = values(out),
               logs = values(lse);
    const auto row = [&](const std::vector<double>& x, std::int64_t index) { return x.data() + index * dim; };
    const auto dot = [&](const double* a, const double* b, bool magnitude) {
      double total = 0;
      for (std::int64_t x = 0; x < dim; ++x) total += magnitude ? std::abs(a[x] * b[x]) : a[x] * b[x];
      return total;
    };
    const auto add = [&](const Array& to, std::int64_t index, const double* from, double factor) {
      for (std::int64_t x = 0; x < dim; ++x) to.view.as<double>()[index * dim + x] += factor * std::abs(from[x]);
    };
    for (std::size_t s = 0; s + 1 < p.queries.size(); ++s) {
      const std::int64_t ahead = (p.keys[s + 1] - p.keys[s]) - (p.queries[s + 1] - p.queries[s]);
      length = std::max<double>(length, p.keys[s + 1] - p.keys[s]);
      for (std::int64_t i = p.queries[s]; i < p.queries[s + 1]; ++i)
        for (std::int64_t h = 0; h < heads; ++h)
          for (std::int64_t j = p.keys[s]; j <= p.keys[s] + ahead + i - p.queries[s]; ++j) {
            const std::int64_t query = i * heads + h, key = j * kv_heads + h / (heads / kv_heads);
            score = std::max(score, p.scale * dot(row(q, query), row(k, key), true));
            const double weight =
                std::exp(p.scale * dot(row(q, query), row(k, key), false) - logs[static_cast<std::size_t>(query)]);
            const double ds = p.scale * weight *
                              (dot(row(d_o, query), row(v, key), true) + dot(row(d_o, query), row(ends, query), true));
            add(o, query, row(v, key), weight);
            add(dq, query, row(k, key), ds);
            add(dk, key, row(q, query), ds);
            add(dv, key, row(d_o, query), weight);
          }
    }
  }

  /// The relative error of a weight, of ds and of a sum over them. In f32: a score is a sum of d products and is then
  /// scaled, so it errs by (d + 4) roundoffs of its terms' magnitude, which exp turns into a relative error; exp, the
  /// normalisation and the difference in ds add less than 16; a sum has as many roundings as terms (a column's keys
  /// or a key's columns). Twice, since the normaliser errs as well. bf16 rounds weights and ds before the products.
  double relative(const Case& c) const {
    const double columns = length * static_cast<double>(c.heads / c.kv_heads);
    const double f32 =
        2 * roundoff(Dtype::f32) * (static_cast<double>(c.dim + 4) * (score + 1) + std::max(columns, length) + 16);
    return f32 + (c.dtype == Dtype::bf16 ? 2 * roundoff(c.dtype) : 0);
  }
};

Bound bound(const Case& c, const Magnitudes& m, const Array& magnitude) {
  // One rounding of the result, and errors in proportion to the terms.
  Bound b = rounding(c.dtype);
  // The bf16 product flushes subnormal terms and results to zero.
  b.absolute += 0x1p-120;
  b.own = [share = m.relative(c), terms = values(magnitude)](std::size_t i) { return share * terms[i]; };
  return b;
}

void check_case(const Case& c, bool backward = true) {
  BOOST_TEST_CONTEXT(c.str()) {
    const Problem p(c);
    p.forward();
    const Array o = empty(Dtype::f64, p.o.view.shape), lse = empty(Dtype::f64, p.lse.view.shape);
    reference::attention(p.q, p.k, p.v, p.segments(), p.scale, o, lse);
    const Magnitudes m(p, o, lse);
    check_close(p.o, o, bound(c, m, m.o), "o");
    // An absolute error of the log is a relative one of its argument. f32 rounds it once more.
    check_close(p.lse, lse, {2 * roundoff(Dtype::f32), m.relative({{}, {}, c.heads, c.kv_heads, c.dim})}, "lse");
    for (const Array& x : {p.o, p.lse}) BOOST_TEST(gaps_are_untouched(x), "writes beside " << x.view.str());
    if (!backward) return;
    p.backward();
    const Array dq = empty(Dtype::f64, p.q.view.shape), dk = empty(Dtype::f64, p.k.view.shape),
                dv = empty(Dtype::f64, p.v.view.shape);
    reference::attention_backward(p.d_o, p.q, p.k, p.v, p.o, p.lse, p.segments(), p.scale, dq, dk, dv);
    check_close(p.dq, dq, bound(c, m, m.dq), "dq");
    check_close(p.dk, dk, bound(c, m, m.dk), "dk");
    check_close(p.dv, dv, bound(c, m, m.dv), "dv");
    for (const Array& x : {p.dq, p.dk, p.dv})
      BOOST_TEST((c.home == Home::fused || gaps_are_untouched(x)), "writes beside " << x.view.str());
  }
}

void check_dtypes(Case c, bool backward = true) {
  for (const Dtype dtype : compute_dtypes) {
    c.dtype = dtype;
    check_case(c, backward);
  }
}
void check_everywhere(Case c, bool backward = true) {
  for (const Home home : {Home::contiguous, Home::padded, Home::fused}) {
    c.home = home;
    check_dtypes(c, backward);
  }
}

}  // namespace

BOOST_AUTO_TEST_CASE(attention_matches_the_reference_at_every_head_dim) {
  for (const std::int64_t dim : {2, 16, 24, 64, 80, 96, 112, 128}) {
    Case c = same({17, 1, 20}, 4, 2, dim);
    c.home = dim % 32 == 16 ? Home::fused : dim == 64 ? Home::padded : Home::contiguous;
    check_dtypes(c);
  }
}

BOOST_AUTO_TEST_CASE(attention_matches_the_reference_at_an_odd_head_dim) {
  check_everywhere(same({9, 33}, 2, 1, 7));
}

BOOST_AUTO_TEST_CASE(attention_matches_the_reference_at_every_group_size) {
  check_everywhere(same({40}, 1, 1, 16));
  check_everywhere(same({40}, 2, 1, 16));
  check_everywhere(same({40}, 6, 2, 16));
  for (const auto& [heads, kv_heads] : {std::pair(2, 2), std::pair(3, 1), std::pair(5, 5), std::pair(7, 1)})
    check_dtypes(same({40}, heads, kv_heads, 16));
}

BOOST_AUTO_TEST_CASE(attention_matches_the_reference_around_block_boundaries) {
  check_everywhere(same({1, 2, 63, 64, 65}, 2, 1, 16));
  check_everywhere(same({95, 96, 97}, 1, 1, 16));
  check_everywhere(same({127, 128, 129}, 3, 1, 16));
}

BOOST_AUTO_TEST_CASE(attention_matches_the_reference_on_a_long_segment) {
  check_dtypes(same({400}, 3, 1, 16));
}

BOOST_AUTO_TEST_CASE(attention_over_random_segments_heads_and_strides_matches_the_reference) {
  const int before = thread_count();
  for (std::uint64_t seed = 100; seed < 180; ++seed) {
    Draw draw(seed);
    const std::int64_t kv_heads = draw.of({1, 1, 2, 3}), heads = kv_heads * draw.of({1, 2, 3, 4, 6}),
                       dim = draw.size(128);
    // The reference's time grows with the square.
    const auto most = static_cast<std::int64_t>(std::sqrt(2e6 / static_cast<double>(heads * dim)));
    const bool cached = draw.once_in(4);
    Case c{{},          {},  heads, kv_heads, dim, draw.of({Dtype::f32, Dtype::bf16, Dtype::bf16, Dtype::f16}),
           Home::drawn, seed};
    for (std::int64_t rest = std::min<std::int64_t>(most, 400); rest > 0;) {
      const std::int64_t queries = draw.once_in(8) ? 0 : draw.size(rest),
                         keys = queries + (cached ? draw.below(rest) : 0);
      c.query_lengths.push_back(static_cast<std::int32_t>(queries));
      c.key_lengths.push_back(static_cast<std::int32_t>(keys));
      rest -= std::max<std::int64_t>(keys, 1);
    }
    set_thread_count(draw.of({1, 2, 3}));
    check_case(c, !cached);
  }
  set_thread_count(before);
}

BOOST_AUTO_TEST_CASE(empty_inputs_and_empty_segments_are_fine) {
  check_everywhere(same({}, 2, 1, 16));
  check_everywhere(same({0}, 2, 1, 16));
  check_everywhere(same({0, 3, 0, 0, 1, 0}, 2, 1, 16));
}

BOOST_AUTO_TEST_CASE(queries_see_the_cached_keys_before_them) {
  check_everywhere({{1}, {1}, 4, 2, 64}, false);
  check_dtypes({{1}, {1200}, 4, 2, 64}, false);
  check_dtypes({{1, 1, 1}, {700, 5, 97}, 6, 2, 16}, false);
  check_everywhere({{5, 0, 40}, {300, 7, 41}, 2, 1, 16}, false);
  check_dtypes({{30}, {500}, 3, 1, 80}, false);
}

BOOST_AUTO_TEST_CASE(keys_of_segments_may_lie_anywhere) {
  for (const Dtype dtype : compute_dtypes) {
    const Problem p({{1, 3, 1, 40}, {130, 3, 9, 60}, 6, 2, 20, dtype});
    p.forward();
    // The same keys, the last segment's first, and between them rows of NaN.
    constexpr std::int64_t gap = 5;
    const auto segments = static_cast<std::int64_t>(p.queries.size()) - 1;
    const Array k = empty(dtype, {p.keys.back() + segments * gap, 2, 20}), v = empty(dtype, k.view.shape);
    std::vector<std::int32_t> begins(p.keys.begin(), p.keys.end() - 1), ends(begins);
    std::int32_t at = gap;
    for (std::size_t s = begins.size(); s-- > 0;) {
      const std::int64_t n = p.keys[s + 1] - p.keys[s];
      assign(k.view.narrowed(0, at, n), values(p.k.view.narrowed(0, p.keys[s], n)));
      assign(v.view.narrowed(0, at, n), values(p.v.view.narrowed(0, p.keys[s], n)));
      begins[s] = at;
      ends[s] = at + static_cast<std::int32_t>(n);
      at = ends[s] + gap;
    }
    const Array o = empty(dtype, p.q.view.shape), lse = empty(Dtype::f32, p.lse.view.shape);
    const Array expected = empty(dtype, o.view.shape), found = empty(dtype, o.view.shape);
    ops::attention(cpu, p.q, k, v, {p.queries, begins, ends}, p.scale, o, lse);
    BOOST_TEST((same_bits(o, p.o) && same_bits(lse, p.lse)), name_of(dtype));
    reference::attention(p.q, p.k, p.v, p.segments(), p.scale, expected, lse);
    reference::attention(p.q, k, v, {p.queries, begins, ends}, p.scale, found, lse);
    BOOST_TEST(same_bits(expected, found), name_of(dtype));
  }
}

BOOST_AUTO_TEST_CASE(the_forward_needs_no_lse) {
  const Problem p(same({70, 3}, 4, 2, 32));
  p.forward();
  const Array o = empty(Dtype::f32, p.o.view.shape);
  ops::attention(cpu, p.q, p.k, p.v, p.segments(), p.scale, o, View());
  BOOST_TEST(same_bits(o, p.o));
}

BOOST_AUTO_TEST_CASE(the_number_of_threads_changes_no_more_than_rounding) {
  // What is split over threads: the keys of a lone query, and the column blocks of a lone key head.
  const int before = thread_count();
  for (const int threads : {1, 2, 5}) {
    set_thread_count(threads);
    Case c = same({300}, 3, 1, 8);
    check_case(c);
    c.dtype = Dtype::bf16;
    check_case(c);
    check_case({{1, 2}, {2000, 900}, 2, 1, 8}, false);
  }
  set_thread_count(before);
}

BOOST_AUTO_TEST_CASE(scores_of_any_size_are_weighed_right) {
  for (const double size : {1e-3, 30.0, 1e3}) {
    Case c = same({150}, 2, 1, 16);
    const Problem p(c);
    const Array scaled = random(Dtype::f32, p.q.view.shape, 1, Layout::contiguous, size);
    assign(p.q, values(scaled));
    p.forward();
    const Array o = empty(Dtype::f64, p.o.view.shape), lse = empty(Dtype::f64, p.lse.view.shape);
    reference::attention(p.q, p.k, p.v, p.segments(), p.scale, o, lse);
    const Magnitudes m(p, o, lse);
    check_close(p.o, o, bound(c, m, m.o), fmt::format("o with queries of size {}", size));
  }
}

BOOST_AUTO_TEST_CASE(gradients_are_those_of_finite_differences) {
  const Case c = same({5, 1, 4}, 4, 2, 4);
  const Problem p(c);
  p.forward();
  p.backward();
  const Array q = clone(p.q, Dtype::f64), k = clone(p.k, Dtype::f64), v = clone(p.v, Dtype::f64),
              d_o = clone(p.d_o, Dtype::f64), o = empty(Dtype::f64, p.o.view.shape);
  const auto objective = [&] {
    reference::attention(q, k, v, p.segments(), p.scale, o, View());
    const auto a = values(o), b = values(d_o);
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
  };
  const auto differences = [&](const Array& x) {
    constexpr double step = 1e-4;
    const Array result = empty(Dtype::f64, x.view.shape);
    for_each_offset(x.view, [&](std::int64_t i) {
      const double value = element(x, i);
      set_element(x, i, value + step);
      const double above = objective();
      set_element(x, i, value - step);
      set_element(result, i, (above - objective()) / (2 * step));
      set_element(x, i, value);
    });
    return result;
  };
  objective();
  const Magnitudes m(p, o, p.lse);
  // The central difference errs by step^2 / 6 times the third derivative, here below 100.
  for (const auto& [gradient, input, terms, name] :
       {std::tuple(p.dq, q, m.dq, "dq"), std::tuple(p.dk, k, m.dk, "dk"), std::tuple(p.dv, v, m.dv, "dv")}) {
    Bound b = bound(c, m, terms);
    b.absolute += 1e-8 / 6 * 100;
    check_close(gradient, differences(input), b, name);
  }
}

BOOST_AUTO_TEST_CASE(later_keys_and_other_segments_change_no_bit_of_a_row) {
  for (const Dtype dtype : compute_dtypes) {
    Case c = same({50, 130}, 3, 1, 16);
    c.dtype = dtype;
    const Problem a(c), b(c);
    const std::int64_t changed = 50 + 100;  // from here on, and the whole first segment
    for (const Array& x : {b.q, b.k, b.v, b.d_o}) {
      for (std::int64_t i = 0; i < 180; ++i)
        if (i < 50 || i >= changed)
          for (std::int64_t h = 0; h < x.view.shape[1]; ++h)
            for (std::int64_t d = 0; d < 16; ++d) reference::set(x, {i, h, d}, 3 - 2 * reference::get(x, {i, h, d}));
    }
    a.forward();
    b.forward();
    a.backward();
    b.backward();
    for (const auto& [x, y] : {std::pair(a.o, b.o), std::pair(a.lse, b.lse), std::pair(a.dq, b.dq)})
      BOOST_TEST(same_bits(x.view.narrowed(0, 50, 100), y.view.narrowed(0, 50, 100)), name_of(dtype));
    BOOST_TEST(!same_bits(a.o.view.narrowed(0, changed, 30), b.o.view.narrowed(0, changed, 30)));
    BOOST_TEST(!same_bits(a.dk.view.narrowed(0, 50, 100), b.dk.view.narrowed(0, 50, 100)));
  }
}

BOOST_AUTO_TEST_CASE(two_runs_on_two_threads_agree_to_the_bit) {
  const int before = thread_count();
  set_thread_count(2);
  for (const Dtype dtype : compute_dtypes) {
    Case c = same({300, 7, 64, 111}, 4, 2, 16);
    c.dtype = dtype;
    const Problem a(c), b(c);
    for (const Problem* p : {&a, &b}) {
      p->forward();
      p->backward();
    }
    for (const auto& [x, y] : {std::pair(a.o, b.o), std::pair(a.lse, b.lse), std::pair(a.dq, b.dq),
                               std::pair(a.dk, b.dk), std::pair(a.dv, b.dv)})
      BOOST_TEST(same_bits(x, y), name_of(dtype));
  }
  set_thread_count(before);
}

BOOST_AUTO_TEST_CASE(gradients_of_keys_and_values_may_be_kept_unrounded) {
  for (const Dtype dtype : compute_dtypes) {
    Case c = same({300, 7}, 2, 1, 20);  // long enough to be cut on three threads
    c.dtype = dtype;
    const Problem p(c);
    const int before = thread_count();
    for (const int threads : {1, 3}) {
      set_thread_count(threads);
      p.forward();
      p.backward();
      const Array dk = empty(Dtype::f32, p.dk.view.shape), dv = empty(Dtype::f32, p.dv.view.shape);
      ops::attention_backward(cpu, p.d_o, p.q, p.k, p.v, p.o, p.lse, p.segments(), p.scale, p.dq, dk, dv);
      BOOST_TEST(same_bits(clone(dk, dtype), p.dk), name_of(dtype));
      BOOST_TEST(same_bits(clone(dv, dtype), p.dv), name_of(dtype));
      BOOST_TEST((dtype == Dtype::f32 || !same_bits(clone(p.dk, Dtype::f32), dk)));
    }
    set_thread_count(before);
  }
}

BOOST_AUTO_TEST_CASE(nan_in_a_query_or_a_seen_key_reaches_the_output) {
  for (const Dtype dtype : compute_dtypes) {
    Case c = same({20}, 2, 1, 16);
    c.dtype = dtype;
    const Problem p(c);
    reference::set(p.q, {7, 1, 3}, NAN);
    p.forward();
    BOOST_TEST(std::isnan(reference::get(p.o, {7, 1, 0})));
    BOOST_TEST(!std::isnan(reference::get(p.o, {7, 0, 0})));
    BOOST_TEST(!std::isnan(reference::get(p.o, {8, 1, 0})));
    const Problem with_key(c);
    reference::set(with_key.k, {5, 0, 0}, NAN);
    with_key.forward();
    BOOST_TEST(!std::isnan(reference::get(with_key.o, {4, 0, 0})));
    for (std::int64_t i = 5; i < 20; ++i) BOOST_TEST(std::isnan(reference::get(with_key.o, {i, 0, 0})));
  }
}

BOOST_AUTO_TEST_CASE(wrong_arguments_throw) {
  const Problem p(same({6}, 4, 2, 8));
  const std::vector<std::int32_t> short_of_n{0, 5}, decreasing{0, 4, 3, 6}, few{0, 3}, none;
  const auto run = [&](const View& q, const View& k, const View& lse, const ops::Segments& segments) {
    ops::attention(cpu, q, k, p.v, segments, p.scale, p.o, lse);
  };
  BOOST_CHECK_NO_THROW(run(p.q, p.k, p.lse, p.segments()));
  BOOST_CHECK_THROW(run(p.q, p.k, p.lse, {short_of_n, p.keys}), Error);
  BOOST_CHECK_THROW(run(p.q, p.k, p.lse, {decreasing, decreasing}), Error);
  BOOST_CHECK_THROW(run(p.q, p.k, p.lse, {p.queries, few}), Error);
  BOOST_CHECK_THROW(run(p.q, p.k, p.lse, {none, none}), Error);
  const std::vector<std::int32_t> zero{0}, six{6}, seven{7}, before{-1}, five{5};
  BOOST_CHECK_NO_THROW(run(p.q, p.k, p.lse, {p.queries, zero, six}));
  for (const auto& [begins, ends] :
       {std::pair(zero, seven), {before, five}, {zero, five}, {p.keys, six}, {zero, p.keys}})
    BOOST_CHECK_THROW(run(p.q, p.k, p.lse, {p.queries, begins, ends}), Error);
  BOOST_CHECK_THROW(run(p.q, clone(p.k, Dtype::bf16), p.lse, p.segments()), Error);
  BOOST_CHECK_THROW(run(p.q, p.k, p.q, p.segments()), Error);
  BOOST_CHECK_THROW(ops::attention(cpu, p.q, p.k, p.v, p.segments(), 0, p.o, p.lse), Error);
  BOOST_CHECK_THROW(run(clone(p.q, Dtype::f32, Layout::transposed), p.k, p.lse, p.segments()), Error);
  BOOST_CHECK_THROW(
      ops::attention_backward(cpu, p.d_o, p.q, p.k, p.v, p.o, View(), p.segments(), p.scale, p.dq, p.dk, p.dv), Error);
}
