// Leaves whose storage and gradients move while a graph exists.

#include <boost/test/unit_test.hpp>

#include "framework/base/allocator.h"
#include "framework/nn/layers.h"
#include "tests/support/gradcheck.h"
#include "tests/support/messages.h"

using namespace dujiang;
using namespace dujiang::test;

namespace {

// A chain through every function that saves a weight: [n] tokens -> [n, width].
struct Chain {
  static constexpr std::int64_t n = 6, width = 8, heads = 2;
  Tensor tokens = integer_tensor({3, 1, 4, 1, 0, 2}), positions = integer_tensor({0, 1, 2, 3, 4, 5});
  Tensor table = nn::rope_table(8, width / heads, 100.0);
  fn::Offsets segments = std::make_shared<const std::vector<std::int32_t>>(std::vector<std::int32_t>{0, n});

  static Tensors weights() {
    return {random_tensor({5, width}, 1),      random_tensor({width}, 2), random_tensor({width, width}, 3),
            random_tensor({width / heads}, 4), random_tensor({width}, 5), random_tensor({width, width}, 6),
            random_tensor({width, width}, 7)};
  }
  Tensor operator()(const Tensors& w) const {
    const Tensor x = fn::embedding(tokens, w[0]);
    const Tensor h = fn::linear(fn::rms_norm(x, w[1], 1e-6f), w[2]);
    const Tensor q = fn::norm_rope(fn::view(h, {n, heads, width / heads}), w[3], 1e-6f, table, positions);
    const Tensor o = fn::view(fn::attention(q, q, q, segments, segments, 0.5f), {n, width});
    const auto [sum, normed] = fn::add_rms_norm(o, x, w[4], 1e-6f);
    return fn::add(sum, fn::matmul(fn::swiglu(fn::linear(normed, w[5]), normed), w[6]));
  }
};

Tensors as_leaves(const Tensors& values) {
  Tensors leaves;
  for (const auto& value : values) {
    leaves.push_back(value.clone());
    autograd::require_grad(leaves.back());
  }
  return leaves;
}

}  // namespace

BOOST_AUTO_TEST_CASE(weights_taken_away_after_forward_and_put_elsewhere_give_the_same_gradients) {
  const Chain chain;
  const Tensors values = Chain::weights();
  Tensors kept = as_leaves(values), moved = as_leaves(values);
  const Tensor gradient = random_tensor({Chain::n, Chain::width}, 9);
  autograd::backward(chain(kept), gradient);

  const Tensor y = chain(moved);
  for (auto& leaf : moved) {
    leaf.fill(NAN);  // whoever still reads the old place shows
    autograd::rebind(leaf, {});
    BOOST_TEST(!leaf.defined());
  }
  for (std::size_t i = 0; i < values.size(); ++i) autograd::rebind(moved[i], values[i].clone());
  autograd::backward(y, gradient);
  for (std::size_t i = 0; i < values.size(); ++i)
    BOOST_TEST(same_bits(autograd::grad_of(kept[i]), autograd::grad_of(moved[i])), "weight " << i);
}

BOOST_AUTO_TEST_CASE(nothing_holds_a_leafs_memory_between_forward_and_backward) {
  constexpr std::int64_t n = 4, width = 256;
  const Tensor labels = integer_tensor({1, 2, 3, 0}), ones = Tensor::of<float>(std::vector<float>(n, 1.0f), {n});
  const Tensor x = random_tensor({n, width}, 1);
  Tensor w = random_tensor({width, width}, 2).clone(), head = random_tensor({width, width}, 3).clone();
  for (auto* leaf : {&w, &head}) {
    autograd::require_grad(*leaf);
    autograd::leaf_slot(*leaf).tensor.fill(0.0f);  // allocates the gradient
  }
  const Tensor loss = fn::linear_cross_entropy(fn::linear(x, w), head, labels, ones, {.valid = width});
  const Tensor w_value = random_tensor({width, width}, 2), head_value = random_tensor({width, width}, 3);
  const auto before = host_allocator_stats().in_use;
  autograd::rebind(w, {});
  autograd::rebind(head, {});
  BOOST_TEST(before - host_allocator_stats().in_use >= 2u * width * width * sizeof(float));
  autograd::rebind(w, w_value);  // the head is not needed any more
  autograd::backward(loss);
  BOOST_TEST(autograd::grad_of(w).defined());
}

BOOST_AUTO_TEST_CASE(a_leaf_without_storage_is_refused_by_the_op_that_reads_it) {
  Tensor x = random_tensor({2, 3}, 1), w = random_tensor({4, 3}, 2);
  autograd::require_grad(x);
  autograd::require_grad(w);
  const Tensor y = fn::linear(x, w);
  autograd::rebind(w, {});
  const auto named = [](const Error& e) { return contains(e.what(), "linear") && contains(e.what(), "no storage"); };
  BOOST_CHECK_EXCEPTION(fn::linear(x, w), Error, named);
  BOOST_CHECK_EXCEPTION(autograd::backward(y, random_tensor({2, 4}, 3)), Error, [](const Error& e) {
    return contains(e.what(), "linear") && contains(e.what(), "no storage");
  });
}

BOOST_AUTO_TEST_CASE(a_leaf_goes_only_where_its_shape_and_dtype_fit) {
  Tensor w = random_tensor({4, 3}, 2);
  BOOST_CHECK_THROW(autograd::rebind(w, random_tensor({4, 3}, 1)), Error);  // not a leaf
  autograd::require_grad(w);
  for (int pass = 0; pass < 2; ++pass) {
    BOOST_CHECK_THROW(autograd::rebind(w, random_tensor({3, 4}, 1)), Error);
    BOOST_CHECK_THROW(autograd::rebind(w, random_tensor({4, 3}, 1).to(Dtype::bf16)), Error);
    autograd::rebind(w, {});  // it knows its shape without storage too
    BOOST_TEST((w.shape() == Shape{4, 3}));
  }
  const Tensor value = random_tensor({4, 3}, 5);
  autograd::rebind(w, value);
  BOOST_TEST(same_bits(w, value));
  BOOST_TEST(w.meta() != nullptr);
}

BOOST_AUTO_TEST_CASE(a_gradient_buffer_may_be_exchanged_and_strided) {
  const Tensor x = random_tensor({5, 3}, 1), dy = random_tensor({5, 4}, 2);
  Tensor w = random_tensor({4, 3}, 3);
  autograd::require_grad(w);
  autograd::backward(fn::linear(x, w), dy);
  const Tensor expected = autograd::grad_of(w).clone();
  // Columns 2 .. 4 of wider rows; what is there counts as empty.
  const Tensor wide = Tensor::empty({4, 8}, Dtype::f32);
  wide.fill(7.0f);
  autograd::set_gradient(w, wide.narrow(1, 2, 3));
  BOOST_TEST(!autograd::grad_of(w).defined());
  autograd::backward(fn::linear(x, w), dy);
  // oneDNN may sum in another order into rows that lie apart: 5 products, so 5 roundings of at most their sum.
  check_close(wide.narrow(1, 2, 3), expected, {0, 5 * 8 * roundoff(Dtype::f32)}, "strided gradient");
  for (std::int64_t i = 0; i < 4; ++i)
    for (const std::int64_t j : {0, 1, 5, 6, 7})
      BOOST_TEST(wide.data<float>()[static_cast<std::size_t>(8 * i + j)] == 7.0f);
  autograd::set_gradient(w, {});
  autograd::backward(fn::linear(x, w), dy);
  BOOST_TEST(same_bits(autograd::grad_of(w), expected));
  BOOST_CHECK_THROW(autograd::set_gradient(w, Tensor::zeros({3, 4}, Dtype::f32)), Error);
  BOOST_CHECK_THROW(autograd::set_gradient(w, Tensor::zeros({4, 3}, Dtype::bf16)), Error);
  BOOST_CHECK_THROW(autograd::set_gradient(w, Tensor::zeros({3, 4}, Dtype::f32).transpose(0, 1)), Error);
  BOOST_CHECK_THROW(autograd::set_gradient(x, Tensor::zeros({5, 3}, Dtype::f32)), Error);
}
