// Every function of autograd/functions.h against finite differences: odd shapes, sizes 0 and 1, inputs that are not
// contiguous, leaves, results of other ops, and inputs used twice.

#include <boost/test/unit_test.hpp>
#include <functional>
#include <numeric>

#include "framework/base/allocator.h"
#include "framework/nn/layers.h"
#include "ops/elementwise.h"
#include "tests/support/gradcheck.h"

using namespace dujiang;
using namespace dujiang::test;

namespace {

fn::Offsets offsets(std::vector<std::int32_t> values) {
  return std::make_shared<const std::vector<std::int32_t>>(std::move(values));
}

std::string name(const std::string& function, Layout layout) {
  return function + " layout " + std::to_string(static_cast<int>(layout));
}

}  // namespace

BOOST_AUTO_TEST_CASE(linear_and_matmul_have_the_gradients_of_finite_differences) {
  for (const auto layout : layouts) {
    for (const auto& [n, k, m] : {std::array{5, 3, 7}, {1, 1, 1}, {0, 3, 2}, {9, 17, 5}, {3, 4, 1}}) {
      check_gradients(name("linear", layout), [](const Tensors& in) { return Tensors{fn::linear(in[0], in[1])}; },
                      {random_tensor({n, k}, 1, layout), random_tensor({m, k}, 2, layout)});
      check_gradients(name("matmul", layout), [](const Tensors& in) { return Tensors{fn::matmul(in[0], in[1])}; },
                      {random_tensor({n, k}, 1, layout), random_tensor({k, m}, 2, layout)});
    }
    check_gradients(name("batched matmul", layout), [](const Tensors& in) { return Tensors{fn::matmul(in[0], in[1])}; },
                    {random_tensor({2, 3, 4, 5}, 1, layout), random_tensor({2, 3, 5, 2}, 2, layout)});
  }
}

BOOST_AUTO_TEST_CASE(shape_functions_have_the_gradients_of_finite_differences) {
  for (const Shape& shape : {Shape{4, 6}, Shape{1, 1}, Shape{0, 6}})
    check_gradients("view",
                    [&](const Tensors& in) {
                      return Tensors{fn::view(in[0], {in[0].count(), 1})};
                    },
                    {random_tensor(shape, 3)});
  for (const auto layout : layouts) {
    for (int axis = 0; axis < 3; ++axis)
      check_gradients(name("narrow", layout), [&](const Tensors& in) { return Tensors{fn::narrow(in[0], axis, 1, 2)}; },
                      {random_tensor({3, 5, 4}, 3, layout)});
    check_gradients(name("narrow to nothing", layout),
                    [](const Tensors& in) { return Tensors{fn::narrow(in[0], 0, 1, 0)}; },
                    {random_tensor({3, 2}, 3, layout)});
    check_gradients(name("transpose", layout), [](const Tensors& in) { return Tensors{fn::transpose(in[0], 0, 2)}; },
                    {random_tensor({3, 5, 4}, 3, layout)});
    check_gradients(name("identity", layout), [](const Tensors& in) { return Tensors{fn::identity(in[0], [] {})}; },
                    {random_tensor({3, 5}, 3, layout)});
    // A view of a transposed result needs a contiguous copy of its gradient on the way back.
    check_gradients(name("transpose of a view of a narrow", layout),
                    [](const Tensors& in) {
                      const Tensor x = fn::scale(fn::narrow(in[0], 1, 1, 4), 1.0f);
                      return Tensors{fn::transpose(fn::view(x, {2, 6}), 0, 1)};
                    },
                    {random_tensor({3, 5}, 3, layout)});
  }
}

BOOST_AUTO_TEST_CASE(cast_rounds_its_gradient_to_the_dtype_it_came_from) {
  Tensor x = random_tensor({5, 3}, 4).to(Dtype::bf16);
  autograd::require_grad(x);
  const Tensor gradient = random_tensor({5, 3}, 5);
  autograd::backward(fn::cast(x, Dtype::f32), gradient);
  BOOST_TEST(same_bits(autograd::grad_of(x), gradient.to(Dtype::bf16).to(Dtype::f32)));
  Tensor y = random_tensor({4}, 6);
  autograd::require_grad(y);
  const Tensor same = fn::cast(y, Dtype::f32);
  BOOST_TEST(same.meta() == y.meta());  // nothing to do: no node
}

BOOST_AUTO_TEST_CASE(elementwise_functions_have_the_gradients_of_finite_differences) {
  for (const auto layout : layouts) {
    for (const Shape& shape : {Shape{3, 7}, Shape{1, 1}, Shape{0, 4}, Shape{2, 3, 5}}) {
      const Tensors pair{random_tensor(shape, 1, layout), random_tensor(shape, 2, layout)};
      check_gradients(
          name("add", layout), [](const Tensors& in) { return Tensors{fn::add(in[0], in[1])}; }, pair);
      check_gradients(
          name("multiply", layout), [](const Tensors& in) { return Tensors{fn::multiply(in[0], in[1])}; }, pair);
      check_gradients(name("scale", layout), [](const Tensors& in) { return Tensors{fn::scale(in[0], -1.5f)}; },
                      {pair[0]});
    }
    check_gradients(name("multiply by itself", layout),
                    [](const Tensors& in) { return Tensors{fn::multiply(in[0], in[0])}; },
                    {random_tensor({3, 7}, 1, layout)});
  }
  for (const Shape& shape : {Shape{3, 7}, Shape{1, 1}, Shape{0, 4}, Shape{2, 33}}) {
    check_gradients("swiglu", [](const Tensors& in) { return Tensors{fn::swiglu(in[0], in[1])}; },
                    {random_tensor(shape, 1), random_tensor(shape, 2)});
    check_gradients("sum", [](const Tensors& in) { return Tensors{fn::sum(in[0])}; }, {random_tensor(shape, 1)});
  }
}

BOOST_AUTO_TEST_CASE(norms_have_the_gradients_of_finite_differences) {
  // eps is large: with d = 1 the output is a sign, but for eps, and has no useful difference.
  constexpr float eps = 0.3f;
  for (const auto layout : {Layout::contiguous, Layout::padded}) {
    for (const auto& [n, d] : {std::array{3, 8}, {1, 1}, {0, 4}, {5, 19}}) {
      const Tensor x = random_tensor({n, d}, 1, layout), r = random_tensor({n, d}, 2, layout);
      const Tensor w = random_tensor({d}, 3);
      check_gradients(name("rms_norm", layout),
                      [&](const Tensors& in) { return Tensors{fn::rms_norm(in[0], in[1], eps)}; }, {x, w});
      const auto sum_and_norm = [&](const Tensors& in) {
        const auto [sum, normed] = fn::add_rms_norm(in[0], in[1], in[2], eps);
        return Tensors{sum, normed};
      };
      check_gradients(name("add_rms_norm", layout), sum_and_norm, {x, r, w});
      check_gradients(name("add_rms_norm, sum only", layout),
                      [&](const Tensors& in) { return Tensors{sum_and_norm(in)[0]}; }, {x, r, w});
      check_gradients(name("add_rms_norm, norm only", layout),
                      [&](const Tensors& in) { return Tensors{sum_and_norm(in)[1]}; }, {x, r, w});
    }
  }
}

BOOST_AUTO_TEST_CASE(rotary_embedding_has_the_gradients_of_finite_differences) {
  constexpr float eps = 0.1f;
  for (const auto layout : {Layout::contiguous, Layout::padded}) {
    for (const auto& [n, heads, d] : {std::array{3, 2, 8}, {1, 1, 2}, {0, 2, 4}, {4, 3, 6}}) {
      const Tensor table = nn::rope_table(50, d, 100.0);
      std::vector<std::int32_t> at;
      for (int i = 0; i < n; ++i) at.push_back((17 * i + 3) % 50);
      const Tensor positions = integer_tensor(at);
      const Tensor x = random_tensor({n, heads, d}, 1, layout);
      check_gradients(name("norm_rope", layout),
                      [&](const Tensors& in) { return Tensors{fn::norm_rope(in[0], in[1], eps, table, positions)}; },
                      {x, random_tensor({d}, 2)});
      check_gradients(name("norm_rope without norm", layout),
                      [&](const Tensors& in) { return Tensors{fn::norm_rope(in[0], {}, eps, table, positions)}; }, {x});
    }
  }
}

BOOST_AUTO_TEST_CASE(norms_rotations_and_swiglu_are_computed_again_in_backward_rather_than_kept) {
  constexpr std::int64_t n = 64, heads = 4, d = 64;
  constexpr std::uint64_t one = n * heads * d * sizeof(float);  // a size that the allocator has as it is
  constexpr float eps = 0.1f;
  const Tensor weight = random_tensor({d}, 1), table = nn::rope_table(n, d, 100.0);
  std::vector<std::int32_t> at(n);
  std::iota(at.begin(), at.end(), 0);
  const Tensor positions = integer_tensor(at);
  struct Case {
    const char* name;
    Shape shape;
    std::function<Tensor(const Tensor&)> make;
    std::uint64_t results;  // that others keep
  };
  const Case cases[] = {
      {"rms_norm", {n * heads, d}, [&](const Tensor& x) { return fn::rms_norm(x, weight, eps); }, 0},
      {"add_rms_norm", {n * heads, d}, [&](const Tensor& x) { return fn::add_rms_norm(x, x, weight, eps).normed; }, 1},
      {"norm_rope", {n, heads, d}, [&](const Tensor& x) { return fn::norm_rope(x, weight, eps, table, positions); }, 0},
      {"swiglu", {n * heads, d}, [&](const Tensor& x) { return fn::swiglu(x, x); }, 0}};
  for (const auto& [name, shape, make, results] : cases) {
    Tensor x = random_tensor(shape, 2).clone(), factor = random_tensor(shape, 3).clone();
    const Tensor gradient = random_tensor(shape, 4), expected = Tensor::empty(shape, Dtype::f32);
    ops::multiply(default_stream({}), gradient, make(x), expected);
    for (auto* leaf : {&x, &factor}) autograd::require_grad(*leaf);
    const Tensor input = fn::scale(x, 1.0f);  // a leaf's memory would be anyone's
    const auto before = host_allocator_stats().in_use;
    const Tensor product = fn::multiply(make(input), factor);  // keeps what make() gives for factor's gradient
    BOOST_TEST(host_allocator_stats().in_use - before < (results + 2) * one, name);
    autograd::backward(product, gradient);
    BOOST_TEST(same_bits(autograd::grad_of(factor), expected), name);
  }
}

BOOST_AUTO_TEST_CASE(attention_has_the_gradients_of_finite_differences) {
  struct Case {
    std::int64_t n, heads, kv_heads, d;
    std::vector<std::int32_t> segments;
  };
  for (const auto layout : {Layout::contiguous, Layout::padded}) {
    for (const auto& c : {Case{5, 2, 1, 4, {0, 5}}, Case{7, 2, 2, 3, {0, 1, 4, 7}}, Case{1, 1, 1, 1, {0, 1}},
                          Case{6, 4, 2, 8, {0, 6}}, Case{0, 2, 1, 4, {0}}}) {
      const auto segments = offsets(c.segments);
      check_gradients(
          name("attention", layout),
          [&](const Tensors& in) { return Tensors{fn::attention(in[0], in[1], in[2], segments, segments, 0.4f)}; },
          {random_tensor({c.n, c.heads, c.d}, 1, layout), random_tensor({c.n, c.kv_heads, c.d}, 2, layout),
           random_tensor({c.n, c.kv_heads, c.d}, 3, layout)});
    }
  }
}

BOOST_AUTO_TEST_CASE(embedding_has_the_gradients_of_finite_differences) {
  for (const auto& tokens : {std::vector<std::int32_t>{4, 0, 4, 2, 4}, {0}, {}}) {
    const Tensor ids = integer_tensor(tokens);
    check_gradients("embedding", [&](const Tensors& in) { return Tensors{fn::embedding(ids, in[0])}; },
                    {random_tensor({5, 3}, 1)});
  }
}

namespace {

// linear_cross_entropy wants its weight to be a leaf: the one usage that check_gradients cannot vary.
struct CrossEntropy {
  Tensor labels, loss_weight;
  fn::CrossEntropyOptions options;
  Tensor operator()(const Tensor& x, const Tensor& weight) const {
    return fn::linear_cross_entropy(x, weight, labels, loss_weight, options);
  }
};

}  // namespace

BOOST_AUTO_TEST_CASE(cross_entropy_has_the_gradients_of_finite_differences) {
  struct Case {
    std::int64_t width, vocabulary, valid;
    std::vector<std::int32_t> labels;
    std::vector<float> weight;
  };
  for (const auto& c : {Case{3, 7, 7, {6, 0, 3, 3, 1}, {1, 1, 1, 1, 1}},
                        Case{4, 9, 6, {5, -100, 2, 0}, {1, 0, 0.5f, 2}},  // padded vocabulary, a token without label
                        Case{1, 1, 1, {0}, {1}}, Case{2, 5, 5, {}, {}}}) {
    const auto n = static_cast<std::int64_t>(c.labels.size());
    const CrossEntropy loss{integer_tensor(c.labels), Tensor::of<float>(c.weight, {n}), {.valid = c.valid}};
    const Tensor weight = random_tensor({c.vocabulary, c.width}, 2);
    check_gradients("linear_cross_entropy, x",
                    [&](const Tensors& in) {
                      Tensor leaf = weight.detached();
                      autograd::require_grad(leaf);
                      return Tensors{loss(in[0], leaf)};
                    },
                    {random_tensor({n, c.width}, 1)});
    // The weight as a leaf, by differences of its own.
    const Tensor x = random_tensor({n, c.width}, 1);
    Tensor leaf = weight.detached();
    autograd::require_grad(leaf);
    autograd::backward(loss(x, leaf));
    const Tensor grad = autograd::grad_of(leaf);  // without a row nothing was written
    const auto actual = values(grad.defined() ? grad : Tensor::zeros(weight.shape(), Dtype::f32));
    const autograd::NoGrad guard;
    std::size_t i = 0;
    for_each_offset(weight, [&](std::int64_t offset) {
      float& w = weight.raw().as<float>()[offset];
      const float base = w;
      constexpr double h = 1.0 / 16;  // bounds as in check_gradients
      const auto at = [&](double by) {
        w = static_cast<float>(base + by);
        return loss(x, weight).item();
      };
      const double expected = (at(-2 * h) - 8 * at(-h) + 8 * at(h) - at(2 * h)) / (12 * h);
      w = base;
      BOOST_CHECK_SMALL(actual[i++] - expected, 1e-3);
    });
    for (auto row = c.valid; row < c.vocabulary; ++row)
      for (std::int64_t k = 0; k < c.width; ++k)
        BOOST_TEST(actual[static_cast<std::size_t>(row * c.width + k)] == 0.0);  // padding takes no part at all
  }
}

BOOST_AUTO_TEST_CASE(cross_entropy_scales_gradients_and_not_the_loss) {
  const Tensor labels = integer_tensor({1, 0, 2}), ones = Tensor::of<float>(std::vector<float>{1, 1, 1}, {3});
  const auto run = [&](float grad_scale) {
    Tensor x = random_tensor({3, 4}, 1), w = random_tensor({5, 4}, 2);
    autograd::require_grad(x);
    autograd::require_grad(w);
    const Tensor loss = fn::linear_cross_entropy(x, w, labels, ones, {.valid = 5, .grad_scale = grad_scale});
    autograd::backward(loss);
    return std::tuple(loss.item(), autograd::grad_of(x), autograd::grad_of(w));
  };
  const auto [loss, dx, dw] = run(1.0f);
  const auto [scaled_loss, scaled_dx, scaled_dw] = run(0.25f);  // a power of two: exact
  BOOST_TEST(loss == scaled_loss);
  const auto times = [](const Tensor& t, float factor) { return fn::scale(t, factor); };
  BOOST_TEST(same_bits(times(dx, 0.25f), scaled_dx));
  BOOST_TEST(same_bits(times(dw, 0.25f), scaled_dw));
}

BOOST_AUTO_TEST_CASE(cross_entropy_in_chunks_equals_one_chunk) {
  // 40 rows of 2^19 f32 logits are 80 MiB, over the chunk limit of 64; halves of 20 rows are one chunk each.
  constexpr std::int64_t n = 40, width = 4, vocabulary = std::int64_t{1} << 19;
  const Tensor x = random_tensor({n, width}, 1), weight = random_tensor({vocabulary, width}, 2);
  std::vector<std::int32_t> labels;
  for (std::int32_t i = 0; i < n; ++i) labels.push_back(i % 7 == 3 ? -100 : i * 12007);
  std::vector<float> ones(n, 1.0f);
  const fn::CrossEntropyOptions options{.valid = vocabulary - 11, .grad_scale = 0.5f};
  const auto run = [&](std::int64_t rows) {
    double loss = 0;
    Tensor dw;
    const Tensor dx = Tensor::empty(x.shape(), Dtype::f32);
    for (std::int64_t first = 0; first < n; first += rows) {
      Tensor w = weight.detached(), part = x.narrow(0, first, rows);
      autograd::require_grad(w);
      autograd::require_grad(part);
      const Tensor one = fn::linear_cross_entropy(
          part, w, integer_tensor({labels.begin() + first, labels.begin() + first + rows}),
          Tensor::of<float>(std::vector<float>(static_cast<std::size_t>(rows), 1.0f), {rows}), options);
      loss += one.item();
      autograd::backward(one);
      dx.narrow(0, first, rows).copy_from(autograd::grad_of(part));
      dw = dw.defined() ? fn::add(dw, autograd::grad_of(w)) : autograd::grad_of(w);
    }
    return std::tuple(loss, dx, dw);
  };
  reset_host_allocator_peak();
  const auto before = host_allocator_stats().in_use;
  const auto [loss, dx, dw] = run(n);
  // dw (8 MiB) and one chunk: all logits at once would be 80 MiB.
  BOOST_TEST(host_allocator_stats().peak - before < (std::uint64_t{80} << 20));
  const auto [half_loss, half_dx, half_dw] = run(n / 2);
  // The same products and sums in another order of addition over the 40 rows.
  BOOST_CHECK_CLOSE_FRACTION(loss, half_loss, 40 * roundoff(Dtype::f32));
  check_close(dx, half_dx, {8 * roundoff(Dtype::f32), 1e-9}, "dx");
  check_close(dw, half_dw, {40 * roundoff(Dtype::f32), 1e-8}, "dw");
}

BOOST_AUTO_TEST_CASE(cross_entropy_refuses_a_gradient_other_than_one) {
  Tensor x = random_tensor({2, 3}, 1);
  autograd::require_grad(x);
  const Tensor loss =
      fn::linear_cross_entropy(x, random_tensor({4, 3}, 2), integer_tensor({1, 2}),
                               Tensor::of<float>(std::vector<float>{1, 1}, {2}), {.valid = 4, .grad_scale = 1.0f});
  BOOST_CHECK_EXCEPTION(autograd::backward(fn::scale(loss, 2.0f)), Error, [](const Error& e) {
    return std::string(e.what()).find("linear_cross_entropy") != std::string::npos;
  });
}
