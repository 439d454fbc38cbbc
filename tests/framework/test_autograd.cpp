// The graph: accumulation, order, what it keeps alive, what it refuses.

#include <boost/test/unit_test.hpp>

#include "framework/base/allocator.h"
#include "tests/support/gradcheck.h"

using namespace dujiang;
using namespace dujiang::test;

namespace {

Tensor leaf(Shape shape, std::uint64_t seed) {
  Tensor x = random_tensor(shape, seed);
  autograd::require_grad(x);
  return x;
}

Tensor constant_like(const Tensor& x, float value) {
  const Tensor y = Tensor::empty(x.shape(), Dtype::f32);
  y.fill(value);
  return y;
}

bool mentions(const Error& e, const std::string& part) {
  return std::string(e.what()).find(part) != std::string::npos;
}

}  // namespace

BOOST_AUTO_TEST_CASE(gradients_from_several_uses_add_up) {
  const Tensor x = leaf({3, 5}, 1);
  // x, 2x, x once more through a product with a constant 3: in all 6. All factors are exact.
  const Tensor y = fn::add(fn::add(x, fn::scale(x, 2.0f)), fn::multiply(x, constant_like(x, 3.0f)));
  autograd::backward(fn::sum(y));
  BOOST_TEST(same_bits(autograd::grad_of(x), constant_like(x, 6.0f)));
}

BOOST_AUTO_TEST_CASE(gradients_of_an_interior_tensor_used_by_several_ops_add_up) {
  const Tensor x = leaf({4, 4}, 1);
  const Tensor h = fn::scale(x, 1.0f);
  // One gradient tensor reaches both inputs of add, and h through three ops: nobody may write into another's memory.
  const Tensor sum = fn::add(h, h);
  const Tensor other = fn::add(h, sum);
  autograd::backward(fn::sum(fn::add(fn::add(sum, other), fn::identity(h, [] {}))));
  BOOST_TEST(same_bits(autograd::grad_of(x), constant_like(x, 6.0f)));
}

BOOST_AUTO_TEST_CASE(a_leaf_accumulates_over_backward_passes_until_cleared) {
  const Tensor x = leaf({2, 3}, 1);
  const auto pass = [&](float factor) { autograd::backward(fn::sum(fn::scale(x, factor))); };
  BOOST_TEST(!autograd::grad_of(x).defined());
  pass(1.0f);
  pass(4.0f);
  BOOST_TEST(same_bits(autograd::grad_of(x), constant_like(x, 5.0f)));
  autograd::clear_grad(x);
  BOOST_TEST(!autograd::grad_of(x).defined());
  pass(2.0f);
  BOOST_TEST(same_bits(autograd::grad_of(x), constant_like(x, 2.0f)));
}

BOOST_AUTO_TEST_CASE(a_preset_gradient_is_written_in_place) {
  Tensor x = random_tensor({2, 3}, 1);
  const Tensor flat = Tensor::zeros({16}, Dtype::f32);
  autograd::require_grad(x, flat.narrow(0, 4, 6).view({2, 3}));
  autograd::backward(fn::sum(fn::scale(x, 3.0f)));
  for (int i = 0; i < 16; ++i)
    BOOST_TEST(flat.data<float>()[static_cast<std::size_t>(i)] == (i >= 4 && i < 10 ? 3.0f : 0.0f));
  BOOST_CHECK_THROW(autograd::require_grad(x, Tensor::zeros({3, 2}, Dtype::f32)), Error);
  BOOST_CHECK_THROW(autograd::require_grad(x, Tensor::zeros({2, 3}, Dtype::bf16)), Error);
}

BOOST_AUTO_TEST_CASE(leaves_of_half_dtype_have_f32_gradients) {
  Tensor w = random_tensor({3, 4}, 1).to(Dtype::bf16);
  autograd::require_grad(w);
  const Tensor x = random_tensor({2, 4}, 2).to(Dtype::bf16);
  for (int pass = 0; pass < 2; ++pass) autograd::backward(fn::linear(x, w), random_tensor({2, 3}, 3).to(Dtype::bf16));
  BOOST_TEST((autograd::grad_of(w).dtype() == Dtype::f32));
}

BOOST_AUTO_TEST_CASE(nothing_is_recorded_without_leaves_or_under_no_grad) {
  const Tensor x = leaf({2, 2}, 1), plain = random_tensor({2, 2}, 2);
  BOOST_TEST(fn::add(plain, plain).meta() == nullptr);
  BOOST_TEST(fn::add(plain, x).meta() != nullptr);
  {
    const autograd::NoGrad outer;
    {
      const autograd::NoGrad inner;
      BOOST_TEST(fn::add(plain, x).meta() == nullptr);
    }
    BOOST_TEST(fn::scale(x, 2.0f).meta() == nullptr);
    BOOST_TEST(!autograd::recording({x}));
  }
  BOOST_TEST(fn::scale(x, 2.0f).meta() != nullptr);
}

BOOST_AUTO_TEST_CASE(identity_reports_once_when_everything_behind_it_is_done) {
  const Tensor x = leaf({2, 2}, 1), w = leaf({2, 2}, 2), v = leaf({2, 2}, 3);
  std::vector<std::string> events;
  const Tensor in = fn::identity(x, [&] {
    events.push_back("block");
    // What came after the identity has its gradients; what lies before does not yet.
    BOOST_TEST(autograd::grad_of(w).defined());
    BOOST_TEST(autograd::grad_of(v).defined());
    BOOST_TEST(!autograd::grad_of(x).defined());
  });
  // Three uses of the identity's output, one of them last of all.
  const Tensor y = fn::multiply(fn::add(fn::multiply(in, w), in), v);
  const Tensor z = fn::identity(fn::add(y, in), [&] { events.push_back("after"); });
  autograd::backward(fn::sum(z));
  BOOST_TEST(events == (std::vector<std::string>{"after", "block"}));
  BOOST_TEST(autograd::grad_of(x).defined());
}

BOOST_AUTO_TEST_CASE(backward_gives_back_the_memory_of_the_graph) {
  const Tensor x = leaf({64, 64}, 1), w = leaf({64, 64}, 2);
  autograd::leaf_slot(x).tensor.fill(0.0f);  // allocates the gradients
  autograd::leaf_slot(w).tensor.fill(0.0f);
  const auto before = host_allocator_stats().in_use;
  Tensor root;
  {
    Tensor h = x;
    for (int i = 0; i < 10; ++i) h = fn::linear(fn::swiglu(h, h), w);
    root = fn::sum(h);
  }
  // The inputs of nine layers are held; SwiGLU's values are computed again, and the first input is the leaf.
  BOOST_TEST(host_allocator_stats().in_use >= before + 9 * 64 * 64 * 4);
  autograd::backward(root);
  // The root itself is still held here, and nothing below it.
  const auto held = host_allocator_stats().in_use - before;
  root = {};
  BOOST_TEST(host_allocator_stats().in_use == before);
  BOOST_TEST(held < 64u * 64 * 4);
}

BOOST_AUTO_TEST_CASE(a_graph_that_is_dropped_gives_its_memory_back_too) {
  const Tensor x = leaf({64, 64}, 1);
  const auto before = host_allocator_stats().in_use;
  {
    Tensor h = x;
    for (int i = 0; i < 1000; ++i) h = fn::scale(h, 1.0f);
  }
  BOOST_TEST(host_allocator_stats().in_use == before);
}

BOOST_AUTO_TEST_CASE(a_consumed_graph_is_refused) {
  const Tensor x = leaf({2, 2}, 1);
  const Tensor shared = fn::scale(x, 2.0f);
  const Tensor a = fn::sum(fn::scale(shared, 1.0f)), b = fn::sum(fn::multiply(shared, shared));
  autograd::backward(a);
  const auto consumed = [](const Error& e) { return mentions(e, "scale") && mentions(e, "consumed"); };
  BOOST_CHECK_EXCEPTION(autograd::backward(b), Error, consumed);
  BOOST_CHECK_EXCEPTION(autograd::backward(a), Error, [](const Error& e) { return mentions(e, "consumed"); });
}

BOOST_AUTO_TEST_CASE(a_root_that_cannot_be_one_is_refused) {
  const Tensor x = leaf({2, 2}, 1);
  BOOST_CHECK_THROW(autograd::backward(x), Error);
  BOOST_CHECK_THROW(autograd::backward(random_tensor({1}, 1)), Error);
  BOOST_CHECK_THROW(autograd::backward(fn::scale(x, 2.0f)), Error);  // several elements and no gradient
  BOOST_CHECK_THROW(autograd::leaf_slot(fn::scale(x, 2.0f)), Error);
}
