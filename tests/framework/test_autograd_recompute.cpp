// recompute: the same bits with less memory.

#include "framework/autograd/recompute.h"

#include <boost/test/unit_test.hpp>
#include <string_view>

#include "framework/base/allocator.h"
#include "framework/base/op_observer.h"
#include "tests/support/gradcheck.h"
#include "tests/support/messages.h"

using namespace dujiang;
using namespace dujiang::test;

namespace {

Tensor leaf(Shape shape, std::uint64_t seed, Dtype dtype) {
  Tensor t = random_tensor(shape, seed).to(dtype);
  autograd::require_grad(t);
  return t;
}

// Uses x three times and w twice, so that gradients add up both in an interior tensor and in a leaf.
Tensor block(const Tensor& x, const Tensor& w, const Tensor& v) {
  const Tensor h = fn::swiglu(fn::linear(x, w), fn::linear(fn::multiply(x, x), v));
  return fn::add(fn::linear(h, w), x);
}

enum class How { kept, recomputed, nested };
using Body = std::function<Tensor(const Tensor&)>;

Tensor run(How how, const Tensor& x, const Body& body) {
  if (how == How::kept) return body(x);
  if (how == How::recomputed) return autograd::recompute(x, body);
  return autograd::recompute(x, [&body](const Tensor& inner) { return autograd::recompute(inner, body); });
}

// Output and the gradients of x, w, v after two passes over two blocks that share w.
Tensors outcome(How how, Dtype dtype) {
  const Tensor x = leaf({7, 16}, 1, dtype), w = leaf({16, 16}, 2, dtype), v = leaf({16, 16}, 3, dtype);
  Tensors result;
  for (int pass = 0; pass < 2; ++pass) {
    const Body body = [&](const Tensor& in) { return block(in, w, v); };
    const Tensor y = run(how, run(how, fn::scale(x, 0.5f), body), body);
    autograd::backward(y, random_tensor({7, 16}, 4).to(dtype));
    result.push_back(y);
  }
  for (const auto* t : {&x, &w, &v}) result.push_back(autograd::grad_of(*t));
  return result;
}

struct SwigluCalls : OpObserver {
  int count = 0;
  void call(const OpCall& call, const std::function<void()>& run) override {
    count += std::string_view(call.op) == "swiglu" ? 1 : 0;
    run();
  }
};

}  // namespace

BOOST_AUTO_TEST_CASE(a_sweep_is_computed_again_unless_its_result_is_kept_and_no_bit_depends_on_it) {
  for (const Dtype dtype : compute_dtypes) {
    Tensors gradients[2];
    for (const bool kept : {false, true}) {
      const Tensor x = leaf({7, 16}, 1, dtype), w = leaf({16, 16}, 2, dtype), v = leaf({16, 16}, 3, dtype);
      SwigluCalls calls;
      const OpObserverScope scope(&calls);
      Tensor y;
      {
        const autograd::KeepResults keep(kept);
        y = block(x, w, v);
      }
      autograd::backward(y, random_tensor({7, 16}, 4).to(dtype));
      BOOST_TEST(calls.count == (kept ? 1 : 2));
      for (const auto* t : {&x, &w, &v}) gradients[kept].push_back(autograd::grad_of(*t));
    }
    for (std::size_t i = 0; i < gradients[0].size(); ++i) BOOST_TEST(same_bits(gradients[0][i], gradients[1][i]));
  }
}

BOOST_AUTO_TEST_CASE(recompute_changes_no_bit) {
  for (const Dtype dtype : compute_dtypes) {
    const Tensors kept = outcome(How::kept, dtype);
    for (const How how : {How::recomputed, How::nested}) {
      const Tensors again = outcome(how, dtype);
      for (std::size_t i = 0; i < kept.size(); ++i)
        BOOST_TEST(same_bits(kept[i], again[i]), name_of(dtype) << " how " << static_cast<int>(how) << " tensor " << i);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_leaf_as_the_argument_gets_its_gradient_itself) {
  for (const Dtype dtype : compute_dtypes) {
    const Tensor w = leaf({16, 16}, 2, dtype), v = leaf({16, 16}, 3, dtype);
    const Body body = [&](const Tensor& in) { return block(in, w, v); };
    Tensor grads[2];
    for (const How how : {How::kept, How::recomputed}) {
      const Tensor x = leaf({7, 16}, 1, dtype);
      for (int pass = 0; pass < 2; ++pass) autograd::backward(run(how, x, body), random_tensor({7, 16}, 4).to(dtype));
      grads[static_cast<int>(how)] = autograd::grad_of(x);
    }
    BOOST_TEST(same_bits(grads[0], grads[1]));
  }
}

BOOST_AUTO_TEST_CASE(leaves_inside_get_gradients_where_the_argument_wants_none) {
  const Tensor x = random_tensor({7, 16}, 1);
  Tensor grads[2];
  for (const How how : {How::kept, How::recomputed}) {
    const Tensor w = leaf({16, 16}, 2, Dtype::f32), v = leaf({16, 16}, 3, Dtype::f32);
    const Tensor y = run(how, x, [&](const Tensor& in) { return block(in, w, v); });
    autograd::backward(y, random_tensor({7, 16}, 4));
    grads[static_cast<int>(how)] = autograd::grad_of(w);
  }
  BOOST_TEST(same_bits(grads[0], grads[1]));
}

BOOST_AUTO_TEST_CASE(what_wants_no_gradient_is_not_recorded) {
  const Tensor x = random_tensor({2, 2}, 1), w = leaf({2, 2}, 2, Dtype::f32);
  const Body twice = [](const Tensor& in) { return fn::scale(in, 2.0f); };
  BOOST_TEST(autograd::recompute(x, twice, false).meta() == nullptr);
  BOOST_TEST(autograd::recompute(w, twice, false).meta() != nullptr);
  // The hint may be wrong: nothing inside wants a gradient after all.
  autograd::backward(fn::multiply(autograd::recompute(x, twice), w), x);
  const autograd::NoGrad guard;
  BOOST_TEST(autograd::recompute(w, twice).meta() == nullptr);
}

BOOST_AUTO_TEST_CASE(a_body_that_returns_its_argument_hands_the_gradient_through) {
  const Tensor x = leaf({2, 2}, 1, Dtype::f32), dy = random_tensor({2, 2}, 2);
  const Tensor y = autograd::recompute(fn::scale(x, 2.0f), [](const Tensor& in) { return in; });
  autograd::backward(y, dy);
  BOOST_TEST(same_bits(autograd::grad_of(x), fn::scale(dy, 2.0f)));
}

BOOST_AUTO_TEST_CASE(only_the_argument_is_kept_until_backward) {
  constexpr std::int64_t n = 64, width = 64;
  const Tensor x = leaf({n, width}, 1, Dtype::f32), w = leaf({width, width}, 2, Dtype::f32),
               v = leaf({width, width}, 3, Dtype::f32);
  const auto body = [&](const Tensor& in) { return block(in, w, v); };
  const auto before = host_allocator_stats().in_use;
  Tensor y = fn::scale(x, 1.0f);
  for (int i = 0; i < 4; ++i) y = autograd::recompute(y, body);
  // The five tensors between the blocks, rounded up by the allocator by less than one more.
  BOOST_TEST(host_allocator_stats().in_use - before < 6u * n * width * sizeof(float));
  autograd::backward(y, random_tensor({n, width}, 4));
  y = {};
  BOOST_TEST(host_allocator_stats().in_use - before < 4u * n * width * sizeof(float));  // the gradients of three leaves
}

BOOST_AUTO_TEST_CASE(leaves_may_be_elsewhere_in_the_second_run) {
  const Tensor dy = random_tensor({7, 16}, 4), value = random_tensor({16, 16}, 2);
  Tensor grads[2];
  for (const bool move : {false, true}) {
    const Tensor x = leaf({7, 16}, 1, Dtype::f32);
    Tensor w = value.clone();
    autograd::require_grad(w);
    // What a wrapper around a block does: the weight is there while the block runs, and then not.
    const auto body = [&](const Tensor& in) {
      if (move) autograd::rebind(w, value.clone());
      const Tensor y = fn::linear(fn::linear(in, w), w);
      if (move && !autograd::recording()) autograd::rebind(w, {});
      return y;
    };
    const Tensor y = autograd::recompute(fn::scale(x, 1.0f), body);
    BOOST_TEST(w.defined() == !move);
    autograd::backward(y, dy);
    grads[move] = autograd::grad_of(w);
  }
  BOOST_TEST(same_bits(grads[0], grads[1]));
}

BOOST_AUTO_TEST_CASE(hooks_inside_fire_once_and_after_their_gradients) {
  const Tensor x = leaf({2, 2}, 1, Dtype::f32), w = leaf({2, 2}, 2, Dtype::f32);
  int fired = 0;
  const auto body = [&](const Tensor& in) {
    return fn::multiply(fn::identity(in,
                                     [&] {
                                       ++fired;
                                       BOOST_TEST(autograd::grad_of(w).defined());
                                       BOOST_TEST(!autograd::grad_of(x).defined());
                                     }),
                        w);
  };
  autograd::backward(autograd::recompute(fn::scale(x, 1.0f), body), random_tensor({2, 2}, 3));
  BOOST_TEST(fired == 1);
}

BOOST_AUTO_TEST_CASE(a_body_that_reaches_into_the_graph_outside_is_refused) {
  const Tensor x = leaf({2, 2}, 1, Dtype::f32);
  const Tensor outside = fn::scale(x, 3.0f);
  const Tensor y = autograd::recompute(x, [&](const Tensor& in) { return fn::multiply(in, outside); });
  BOOST_CHECK_EXCEPTION(autograd::backward(y, random_tensor({2, 2}, 3)), Error, [](const Error& e) {
    return contains(e.what(), "multiply") && contains(e.what(), "scale") && contains(e.what(), "recompute");
  });
}
