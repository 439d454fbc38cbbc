// Slices: the bits depend on neither how many ranks share an axis nor how many threads compute.

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <optional>

#include "framework/nn/layers.h"
#include "tests/framework/thread_ranks.h"

using namespace dujiang;
using namespace dujiang::test;

namespace {

Tensor interior(const Tensor& leaf) {
  return fn::scale(leaf, 1.0f);
}

struct LinearCase {
  std::int64_t n, in, out;
  Dtype dtype;
  fn::SlicedAxis axis;
  bool strided_gradient = false;
};

// Two passes, so that gradients are added to.
Parts linear_on(const LinearCase& c, comm::Communicator& ranks, bool sliced = true) {
  const bool out = c.axis == fn::SlicedAxis::out;
  const Share share(out ? c.out : c.in, ranks);
  const int of_x = out ? -1 : 1, of_w = out ? 0 : 1, of_y = out ? 1 : -1;
  const auto part = [&](const Tensor& t, int axis) { return axis < 0 ? t : share.of(t, axis); };
  const Tensor x = leaf_of(part(values_of({c.n, c.in}, 1, c.dtype), of_x));
  const Tensor w = leaf_of(part(values_of({c.out, c.in}, 2, c.dtype), of_w));
  // A rank's gradient may lie in the rows of a wider matrix.
  const Tensor wide = Tensor::zeros({c.out, 2 * c.in}, Dtype::f32);
  if (c.strided_gradient) autograd::set_gradient(w, wide.narrow(0, 0, w.size(0)).narrow(1, 0, w.size(1)));
  const Tensor dy = part(values_of({c.n, c.out}, 3, c.dtype), of_y);
  Tensor y;
  for (int pass = 0; pass < 2; ++pass) {
    const Tensor in = interior(x);
    y = sliced ? fn::linear(in, w, {c.axis, {ways / ranks.size(), sum_over(ranks)}}) : fn::linear(in, w);
    autograd::backward(y, dy);
  }
  return {{y, of_y, share.start}, {autograd::grad_of(x), of_x, share.start}, {autograd::grad_of(w), of_w, share.start}};
}

Tensor magnitudes(const Tensor& t) {
  const Tensor m = t.clone();
  for (float& v : m.data<float>()) v = std::abs(v);
  return m;
}

}  // namespace

BOOST_AUTO_TEST_CASE(linear_has_the_same_bits_for_every_number_of_ranks_and_threads) {
  for (const Dtype dtype : compute_dtypes)
    for (const auto axis : {fn::SlicedAxis::out, fn::SlicedAxis::in})
      for (const auto& [n, free, cut] : {std::array{1, 3, 8}, {33, 37, 104}, {130, 192, 768}, {3, 4096, 64}})
        for (const bool strided : {false, true}) {
          if (strided && n != 33) continue;
          const bool out = axis == fn::SlicedAxis::out;
          const LinearCase c{n, out ? free : cut, out ? cut : free, dtype, axis, strided};
          check_layouts(
              fmt::format("linear {} {}x{}x{}", name_of(dtype), n, c.in, c.out),
              [&](comm::Communicator& ranks) { return linear_on(c, ranks); }, ways);
        }
}

BOOST_AUTO_TEST_CASE(sliced_linear_is_the_linear_function_to_rounding) {
  for (const auto axis : {fn::SlicedAxis::out, fn::SlicedAxis::in}) {
    const LinearCase c{29, 40, 48, Dtype::f32, axis};
    const Parts sliced = on_ranks(1, 2, [&](auto& ranks) { return linear_on(c, ranks); })[0];
    const Parts plain = on_ranks(1, 2, [&](auto& ranks) { return linear_on(c, ranks, false); })[0];
    // Each sum has at most 48 terms twice, in any order: so many roundings of the sum of their magnitudes, on each
    // side.
    const Tensor x = magnitudes(values_of({c.n, c.in}, 1, c.dtype)),
                 w = magnitudes(values_of({c.out, c.in}, 2, c.dtype)),
                 dy = magnitudes(values_of({c.n, c.out}, 3, c.dtype));
    const Tensor terms[3] = {fn::linear(x, w), fn::matmul(dy, w), fn::matmul(fn::transpose(dy, 0, 1), x)};
    for (std::size_t i = 0; i < 3; ++i)
      check_close(sliced[i].tensor, plain[i].tensor,
                  {0, 0, [&](std::size_t k) { return 2 * 2 * 96 * roundoff(Dtype::f32) * values(terms[i])[k]; }},
                  fmt::format("output {}", i));
  }
}

BOOST_AUTO_TEST_CASE(sums_over_slices_are_rounded_once) {
  for (const Dtype dtype : {Dtype::bf16, Dtype::f16})
    for (const auto axis : {fn::SlicedAxis::out, fn::SlicedAxis::in}) {
      const LinearCase c{29, 40, 48, dtype, axis};
      const Tensor x = values_of({c.n, c.in}, 1, dtype), w = values_of({c.out, c.in}, 2, dtype),
                   dy = values_of({c.n, c.out}, 3, dtype), input = leaf_of(x);
      const Tensor y = fn::linear(interior(input), leaf_of(w), {axis, {.local = ways}});
      autograd::backward(y, dy);
      // The same numbers in f32, where sums of at most 48 terms round in every addition.
      const auto f32 = [](const Tensor& t) { return t.to(Dtype::f32); };
      const auto check = [&](const Tensor& actual, const Tensor& expected, const Tensor& terms, const char* what) {
        Bound bound = rounding(dtype);
        bound.own = [&](std::size_t i) { return 2 * 48 * roundoff(Dtype::f32) * values(terms)[i]; };
        check_close(actual, expected, bound, what);
      };
      check(y, fn::linear(f32(x), f32(w)), fn::linear(magnitudes(f32(x)), magnitudes(f32(w))), "y");
      check(autograd::grad_of(input), fn::matmul(f32(dy), f32(w)), fn::matmul(magnitudes(f32(dy)), magnitudes(f32(w))),
            "dx");
    }
}

BOOST_AUTO_TEST_CASE(sliced_functions_have_the_gradients_of_finite_differences) {
  check_gradients("linear, out",
                  [](const Tensors& in) {
                    return Tensors{fn::linear(in[0], in[1], {fn::SlicedAxis::out, {.local = 4}})};
                  },
                  {random_tensor({3, 5}, 1), random_tensor({8, 5}, 2)});
  check_gradients("linear, in",
                  [](const Tensors& in) {
                    return Tensors{fn::linear(in[0], in[1], {fn::SlicedAxis::in, {.local = 4}})};
                  },
                  {random_tensor({3, 8}, 1), random_tensor({5, 8}, 2)});
  const auto segments = std::make_shared<const std::vector<std::int32_t>>(std::vector<std::int32_t>{0, 2, 5});
  for (const auto& [kv_heads, slices] : {std::pair{1, 4}, {2, 4}, {2, 2}, {4, 2}, {2, 1}})
    check_gradients(
        fmt::format("attention, {} key heads in {} slices", kv_heads, slices),
        [&, local = slices](const Tensors& in) {
          return Tensors{fn::attention(in[0], in[1], in[2], segments, segments, 0.4f, {.local = local})};
        },
        {random_tensor({5, 4, 3}, 1), random_tensor({5, kv_heads, 3}, 2), random_tensor({5, kv_heads, 3}, 3)});
  const Tensor table = nn::rope_table(9, 6, 100.0), positions = integer_tensor({3, 0, 8});
  check_gradients(
      "norm_rope",
      [&](const Tensors& in) { return Tensors{fn::norm_rope(in[0], in[1], 0.1f, table, positions, {.local = 4})}; },
      {random_tensor({3, 4, 6}, 1), random_tensor({6}, 2)});
}

namespace {

struct HeadsCase {
  std::int64_t n, heads, kv_heads, dim;
  int slices;  // of all query heads
  Dtype dtype;
};

// Projections of keys, norms, attention: where key heads are fewer than ranks, several ranks have the same one.
Parts heads_on(const HeadsCase& c, comm::Communicator& ranks) {
  const Share queries(c.heads, ranks);
  const std::int64_t copies = std::max<std::int64_t>(ranks.size() / c.kv_heads, 1);
  const std::int64_t keys = std::max<std::int64_t>(c.kv_heads / ranks.size(), 1);
  const std::int64_t first_key = ranks.rank() / copies * keys;
  const auto holders = ranks.split(static_cast<int>(ranks.rank() / copies), ranks.rank());
  const bool first = ranks.rank() % copies == 0;
  const auto key_part = [&](const Tensor& t, int axis, std::int64_t unit) {
    return t.narrow(axis, first_key * unit, keys * unit);
  };

  const Tensor table = nn::rope_table(c.n, c.dim, 100.0);
  std::vector<std::int32_t> rows(static_cast<std::size_t>(c.n));
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::int32_t>(i);
  const Tensor positions = integer_tensor(rows);
  const auto segments = std::make_shared<const std::vector<std::int32_t>>(
      std::vector<std::int32_t>{0, static_cast<std::int32_t>(c.n / 3), static_cast<std::int32_t>(c.n)});

  constexpr std::int64_t width = 24;
  const Tensor x = leaf_of(values_of({c.n, width}, 1, c.dtype));
  const Tensor wk = leaf_of(key_part(values_of({c.kv_heads * c.dim, width}, 2, c.dtype), 0, c.dim));
  const Tensor q = leaf_of(queries.of(values_of({c.n, c.heads, c.dim}, 3, c.dtype), 1));
  const Tensor v = leaf_of(key_part(values_of({c.n, c.kv_heads, c.dim}, 4, c.dtype), 1, 1));
  const Tensor q_norm = leaf_of(values_of({c.dim}, 5, c.dtype)), k_norm = leaf_of(values_of({c.dim}, 6, c.dtype));

  const auto all = sum_over(ranks);
  const int local = c.slices / ranks.size();
  // The key heads' rows in 8 slices; a copy has as many as the first holder.
  const int key_slices = static_cast<int>(ways * keys / c.kv_heads);
  const Tensor key_rows = fn::linear(interior(x), wk, {fn::SlicedAxis::out, {key_slices, all, first}});
  const Tensor k = fn::norm_rope(fn::view(key_rows, {c.n, keys, c.dim}), k_norm, 1e-6f, table, positions,
                                 {static_cast<int>(keys), all, first});
  const Tensor rotated = fn::norm_rope(interior(q), q_norm, 1e-6f, table, positions, {local, all});
  const Tensor o = fn::attention(rotated, k, interior(v), segments, segments, 0.3f, {local, sum_over(*holders)});
  autograd::backward(o, queries.of(values_of({c.n, c.heads, c.dim}, 7, c.dtype), 1));
  return {{o, 1, queries.start},
          {autograd::grad_of(x)},
          {autograd::grad_of(wk), 0, first_key * c.dim},
          {autograd::grad_of(q), 1, queries.start},
          {autograd::grad_of(v), 1, first_key},
          {autograd::grad_of(q_norm)},
          {autograd::grad_of(k_norm)}};
}

}  // namespace

BOOST_AUTO_TEST_CASE(heads_have_the_same_bits_for_every_number_of_ranks_and_threads) {
  for (const Dtype dtype : compute_dtypes)
    for (const auto& [n, heads, kv_heads, dim, slices] : {std::array{37, 8, 1, 8, 8},
                                                          {37, 8, 2, 16, 8},
                                                          {37, 8, 2, 8, 4},
                                                          {37, 16, 8, 8, 4},
                                                          {200, 4, 4, 64, 4},
                                                          {200, 8, 4, 32, 8},
                                                          {33, 12, 4, 8, 4},
                                                          {33, 24, 4, 6, 8}})
      check_layouts(
          fmt::format("{} {} tokens, {} heads, {} key heads, {} slices", name_of(dtype), n, heads, kv_heads, slices),
          [&, c = HeadsCase{n, heads, kv_heads, dim, slices, dtype}](comm::Communicator& ranks) {
            return heads_on(c, ranks);
          });
}

BOOST_AUTO_TEST_CASE(sliced_attention_is_attention_to_rounding) {
  const auto segments = std::make_shared<const std::vector<std::int32_t>>(std::vector<std::int32_t>{0, 50});
  const auto run = [&](std::optional<fn::Slices> slices) {
    const Tensor q = leaf_of(random_tensor({50, 8, 16}, 1)), k = leaf_of(random_tensor({50, 2, 16}, 2)),
                 v = leaf_of(random_tensor({50, 2, 16}, 3));
    const Tensor o = slices ? fn::attention(q, k, v, segments, segments, 0.25f, *slices)
                            : fn::attention(q, k, v, segments, segments, 0.25f);
    autograd::backward(o, random_tensor({50, 8, 16}, 4));
    return Tensors{o, autograd::grad_of(q), autograd::grad_of(k), autograd::grad_of(v)};
  };
  const Tensors plain = run({}), sliced = run(fn::Slices{.local = 8});
  // Sums over at most 4 heads and 50 rows of terms that stay below 8, each with some 16 roundings behind it.
  for (std::size_t i = 0; i < plain.size(); ++i)
    check_close(sliced[i], plain[i], {0, 200 * 8 * 16 * roundoff(Dtype::f32) / 8}, fmt::format("output {}", i));
}

namespace {

// The module with every product sliced: 8 query heads and 2 key heads, so that 4 ranks share key heads.
Parts attention_module_on(Dtype dtype, comm::Communicator& ranks) {
  constexpr std::int64_t n = 21, width = 24, heads = 8, kv_heads = 2, dim = 8;
  const Share queries(heads, ranks);
  const std::int64_t copies = std::max<std::int64_t>(ranks.size() / kv_heads, 1);
  const std::int64_t keys = std::max<std::int64_t>(kv_heads / ranks.size(), 1),
                     first_key = ranks.rank() / copies * keys;
  const auto holders = ranks.split(static_cast<int>(ranks.rank() / copies), ranks.rank());
  const auto all = sum_over(ranks);
  const fn::Slices of_queries{ways / ranks.size(), all};
  const fn::Slices of_keys{static_cast<int>(ways * keys / kv_heads), all, ranks.rank() % copies == 0};

  nn::Attention module("self_attn", {width, heads, kv_heads, dim, 1e-6f, 0.02f, 0, nn::rope_table(n, dim, 100.0)});
  module.slice(nn::Attention::HeadSlices{.queries = of_queries,
                                         .keys = {static_cast<int>(keys), all, of_keys.counts},
                                         .attention = {of_queries.local, sum_over(*holders)}});
  Parts parts(2);  // output and dx, below
  module.visit([&](nn::Module& child) {
    auto* linear = dynamic_cast<nn::Linear*>(&child);
    if (linear == nullptr) return;
    const auto name = child.path().substr(child.path().rfind('.') + 1);
    auto& p = linear->weight();
    const Tensor whole = values_of(p.global, 10 + name[0], dtype);
    const bool of_key = name == "k_proj" || name == "v_proj";
    const int axis = name == "o_proj" ? 1 : 0;
    const std::int64_t start = (of_key ? first_key : queries.start) * dim;
    p.value = leaf_of(whole.narrow(axis, start, (of_key ? keys : queries.length) * dim));
    linear->slice(fn::Slicing{axis == 1 ? fn::SlicedAxis::in : fn::SlicedAxis::out, of_key ? of_keys : of_queries});
    parts.push_back({p.value, axis, start});
  });
  for (auto* p : module.parameters())
    if (!p->value.defined()) {
      p->value = leaf_of(values_of(p->global, p->path.find("q_norm") != std::string::npos ? 5 : 6, dtype));
      parts.push_back({p->value});
    }
  nn::StepContext context;
  std::vector<std::int32_t> rows(n);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::int32_t>(i);
  context.positions = integer_tensor(rows);
  context.segments = std::make_shared<const std::vector<std::int32_t>>(std::vector<std::int32_t>{0, n});
  const Tensor x = leaf_of(values_of({n, width}, 1, dtype));
  const Tensor y = module(interior(x), context);
  autograd::backward(y, values_of({n, width}, 2, dtype));
  for (auto& part : parts)
    if (part.tensor.defined()) part.tensor = autograd::grad_of(part.tensor);
  parts[0] = {y};
  parts[1] = {autograd::grad_of(x)};
  return parts;
}

}  // namespace

BOOST_AUTO_TEST_CASE(an_attention_module_in_slices_has_the_same_bits_for_every_number_of_ranks_and_threads) {
  for (const Dtype dtype : compute_dtypes)
    check_layouts(fmt::format("self_attn {}", name_of(dtype)),
                  [&](comm::Communicator& ranks) { return attention_module_on(dtype, ranks); });
}

BOOST_AUTO_TEST_CASE(functions_without_slices_have_the_same_bits_for_every_number_of_threads) {
  // The residual stream is whole on every rank, the feed-forward's inner width is cut: there, columns of a wider
  // matrix must be what they are alone.
  for (const Dtype dtype : compute_dtypes)
    check_layouts(fmt::format("residual stream, {}", name_of(dtype)), [&](comm::Communicator& ranks) {
      constexpr std::int64_t n = 301, width = 200, inner = 264;
      std::vector<std::int32_t> ids(n);
      for (std::size_t i = 0; i < n; ++i) ids[i] = static_cast<std::int32_t>(i * i % 11);
      const Tensor table = leaf_of(values_of({11, width}, 1, dtype));
      const Tensor w = leaf_of(values_of({width}, 2, dtype)), v = leaf_of(values_of({width}, 3, dtype));
      const Tensor x = fn::embedding(integer_tensor(ids), table);
      const auto [sum, normed] = fn::add_rms_norm(fn::rms_norm(x, w, 1e-6f), x, v, 1e-6f);
      const Tensor y = fn::add(sum, normed);
      autograd::backward(y, values_of({n, width}, 4, dtype));
      const Share share(inner, ranks);
      const auto part = [&](std::uint64_t seed) { return share.of(values_of({n, inner}, seed, dtype), 1).clone(); };
      const Tensor gate = leaf_of(part(5)), up = leaf_of(part(6));
      const Tensor h = fn::swiglu(interior(gate), interior(up));
      autograd::backward(h, part(7));
      return Parts{{y},
                   {autograd::grad_of(table)},
                   {autograd::grad_of(w)},
                   {autograd::grad_of(v)},
                   {h, 1, share.start},
                   {autograd::grad_of(gate), 1, share.start},
                   {autograd::grad_of(up), 1, share.start}};
    });
}

BOOST_AUTO_TEST_CASE(slices_are_added_in_a_balanced_tree) {
  for (const int count : {1, 2, 3, 5, 6, 7, 8}) {
    const Tensor partials = random_tensor({count, 3}, 1).clone();
    const std::function<float(int, int, int)> tree = [&](int begin, int end, int column) -> float {
      if (end - begin == 1) return partials.data<float>()[static_cast<std::size_t>(3 * begin + column)];
      int half = 1;
      while (2 * half < end - begin) half *= 2;
      return tree(begin, begin + half, column) + tree(begin + half, end, column);
    };
    std::vector<float> expected;
    for (int column = 0; column < 3; ++column) expected.push_back(tree(0, count, column));
    BOOST_TEST(same_bits(fn::tree_sum(partials, {}), Tensor::of<float>(expected, {3})), count);
  }
}

BOOST_AUTO_TEST_CASE(a_part_that_another_rank_counts_changes_no_bit_of_a_sum) {
  // Not even the sign of a zero.
  for (const float value : {-0.0f, 0.0f, 1.5f}) {
    const Tensor counted = Tensor::of<float>(std::vector<float>{value}, {1, 1});
    const Tensor copy = Tensor::of<float>(std::vector<float>{7}, {1, 1});
    const Tensor sum = fn::tree_sum(counted, {}), nothing = fn::tree_sum(copy, {.counts = false});
    BOOST_TEST(same_bits(fn::add(sum, nothing), sum));
  }
}

BOOST_AUTO_TEST_CASE(faults_inside_a_slice_and_slices_that_do_not_fit_are_reported) {
  const Tensor x = random_tensor({3, 6}, 1), w = random_tensor({6, 6}, 2);
  for (const auto axis : {fn::SlicedAxis::out, fn::SlicedAxis::in})
    BOOST_CHECK_THROW(fn::linear(x, w, {axis, {.local = 4}}), Error);
  const auto segments = std::make_shared<const std::vector<std::int32_t>>(std::vector<std::int32_t>{0, 3});
  const Tensor q = random_tensor({3, 6, 4}, 1), k = random_tensor({3, 2, 4}, 2);
  BOOST_CHECK_THROW(fn::attention(q, k, k, segments, segments, 1, {.local = 4}), Error);  // 6 heads
  BOOST_CHECK_THROW(fn::attention(q, k, k, segments, segments, 1, {.local = 3}), Error);  // 2 heads of groups of 3
  const int before = thread_count();
  std::atomic<int> ran = 0, alone = 0;
  const auto body = [&](int i) {
    ++ran;
    alone += thread_count() == 1;
    if (i == 1) fail("slice 1");
  };
  BOOST_CHECK_THROW(fn::each_slice(3, body), Error);
  BOOST_TEST(alone == 3);
  BOOST_TEST(ran == 3);
  BOOST_TEST(thread_count() == before);
}
