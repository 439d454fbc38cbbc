// linear_cross_entropy over a vocabulary that ranks share, as shards and as slices.

#include <boost/test/unit_test.hpp>
#include <optional>

#include "framework/nn/layers.h"
#include "tests/framework/thread_ranks.h"

using namespace dujiang;
using namespace dujiang::test;

namespace {

// `padded` rows of the output matrix, those from `valid` on being padding.
struct Problem {
  std::int64_t n, width, valid, padded;
  Dtype dtype;
  Tensor x, weight, labels, loss_weight;

  Problem(std::int64_t n, std::int64_t width, std::int64_t valid, std::int64_t padded, Dtype dtype)
      : n(n),
        width(width),
        valid(valid),
        padded(padded),
        dtype(dtype),
        x(values_of({n, width}, 1, dtype)),
        weight(values_of({padded, width}, 2, dtype)),
        loss_weight(random_tensor({n}, 3)) {
    std::vector<std::int32_t> ids;
    for (std::int64_t i = 0; i < n; ++i)
      ids.push_back(i % 7 == 3 ? -100 : static_cast<std::int32_t>(i * i * 977 % valid));
    labels = integer_tensor(ids);
  }
};

std::function<Tensor(const Tensor&)> gather_over(comm::Communicator& ranks, int* calls = nullptr) {
  if (ranks.size() == 1) return nullptr;
  return [&ranks, calls](const Tensor& part) {
    if (calls != nullptr) ++*calls;
    Tensor all = Tensor::empty({part.size(0) * ranks.size(), 3, part.size(2)}, Dtype::f32);
    auto& stream = default_stream(Device{});
    ranks.all_gather(comm::buffer_of(part), comm::buffer_of(all), stream).wait(stream);
    return all;
  };
}

enum class How { whole, shard, slices };

// The loss and the gradients of x and of this rank's rows, after two passes.
Parts loss_on(const Problem& p, comm::Communicator& ranks, How how, int* calls = nullptr) {
  const Share share(p.padded, ranks);
  const Tensor x = leaf_of(p.x), weight = leaf_of(share.of(p.weight, 0));
  fn::CrossEntropyOptions options{.valid = p.valid, .grad_scale = 0.5f};
  if (how != How::whole)
    options.shard = fn::VocabularyShard{.offset = share.start, .gather = gather_over(ranks, calls)};
  if (how == How::slices) options.shard->slices = fn::Slices{ways / ranks.size(), sum_over(ranks)};
  Tensor loss;
  for (int pass = 0; pass < 2; ++pass) {
    loss = fn::linear_cross_entropy(fn::scale(x, 1.0f), weight, p.labels, p.loss_weight, options);
    autograd::backward(loss);
  }
  return {{loss}, {autograd::grad_of(x)}, {autograd::grad_of(weight), 0, share.start}};
}

}  // namespace

BOOST_AUTO_TEST_CASE(sliced_cross_entropy_has_the_same_bits_for_every_number_of_ranks_and_threads) {
  for (const Dtype dtype : compute_dtypes)
    for (const auto& [n, width, valid, padded] :
         {std::array{33, 24, 1000, 1024}, {17, 40, 70, 128}, {5, 3, 1, 8}, {1, 64, 4096, 4096}}) {
      const Problem p(n, width, valid, padded, dtype);
      const Parts whole = check_layouts(
          fmt::format("{} {} of {} rows", name_of(dtype), valid, padded),
          [&](comm::Communicator& ranks) { return loss_on(p, ranks, How::slices); }, ways);
      // Padding has no gradient, not even where it is a whole slice.
      for (const double g : values(whole[2].tensor.narrow(0, valid, padded - valid))) BOOST_TEST(g == 0.0);
    }
}

BOOST_AUTO_TEST_CASE(chunks_of_rows_are_the_same_for_every_number_of_ranks) {
  // 40 rows of 2^19 f32 logits are 80 MiB, over the limit of 64: two chunks, in which dw adds up.
  const Problem p(40, 4, (1 << 19) - 11, 1 << 19, Dtype::f32);
  std::optional<Parts> whole;
  for (const int ranks : {1, 2}) {
    std::vector<int> calls(2);
    const auto all = on_ranks(ranks, 1, [&](comm::Communicator& c) {
      return loss_on(p, c, How::slices, &calls[static_cast<std::size_t>(c.rank())]);
    });
    if (!whole) whole = all[0];
    for (const auto& parts : all)
      for (std::size_t i = 0; i < parts.size(); ++i) {
        const auto& [tensor, axis, start] = parts[i];
        const Tensor& expected = (*whole)[i].tensor;
        BOOST_TEST(same_bits(tensor, axis < 0 ? expected : expected.narrow(axis, start, tensor.size(axis))),
                   "output " << i);
      }
    if (ranks > 1)
      for (const int n : calls) BOOST_TEST(n == 2 * 2);  // one for each chunk, in both passes
  }
}

BOOST_AUTO_TEST_CASE(shards_and_slices_have_the_loss_and_gradients_of_the_whole) {
  for (const auto& [n, width, valid, padded] : {std::array{33, 24, 1000, 1032}, {17, 40, 70, 120}, {4, 3, 5, 24}}) {
    const Problem p(n, width, valid, padded, Dtype::f32);
    const Parts whole = on_ranks(1, 2, [&](auto& c) { return loss_on(p, c, How::whole); })[0];
    for (const auto& [how, ranks] : {std::pair{How::shard, 1},
                                     {How::shard, 2},
                                     {How::shard, 3},
                                     {How::shard, 4},
                                     {How::slices, 1},
                                     {How::slices, 4}}) {
      const auto all = on_ranks(ranks, 2, [&, h = how](auto& c) { return loss_on(p, c, h); });
      Tensor dx = Tensor::zeros({n, width}, Dtype::f32);
      for (const auto& parts : all) {
        // Logits are sums of `width` products of magnitude below 16 with a rounding each, which the exponential makes a
        // relative error; sums over the vocabulary and over rows have one for each term.
        const double relative = roundoff(Dtype::f32) * (16.0 * width + padded / 4.0 + n + 64);
        check_close(parts[0].tensor, whole[0].tensor, {relative, relative}, "loss");
        const auto& [dw, axis, start] = parts[2];
        const Tensor expected = whole[2].tensor.narrow(0, start, dw.size(0));
        check_close(dw, expected, {relative, 4 * 2 * relative}, "dw");
        if (start + dw.size(0) > valid)
          for (const double g : values(dw.narrow(0, std::max(valid - start, std::int64_t{0}),
                                                 dw.size(0) - std::max(valid - start, std::int64_t{0}))))
            BOOST_TEST(g == 0.0);
        // A shard's dx is its summand.
        dx = how == How::shard ? fn::add(dx, parts[1].tensor) : parts[1].tensor;
        if (how == How::slices || &parts == &all.back())
          check_close(dx, whole[1].tensor, {relative, 8 * 2 * relative}, "dx");
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(what_is_gathered_is_three_numbers_for_each_row_and_slice) {
  const Problem p(6, 4, 64, 64, Dtype::f32);
  for (const int local : {0, 2, 8}) {  // 0: not sliced
    Shape seen;
    fn::CrossEntropyOptions options{.valid = 64};
    options.shard = fn::VocabularyShard{.gather = [&](const Tensor& t) {
      seen = t.shape();
      return t;
    }};
    if (local > 0) options.shard->slices = fn::Slices{local};
    fn::linear_cross_entropy(p.x, p.weight, p.labels, p.loss_weight, options);
    BOOST_TEST((seen == Shape{std::max(local, 1), 3, 6}));
  }
}

BOOST_AUTO_TEST_CASE(sliced_cross_entropy_has_the_gradients_of_finite_differences) {
  const Tensor labels = integer_tensor({5, -100, 2, 0}),
               weights = Tensor::of<float>(std::vector<float>{1, 0, 0.5f, 2}, {4});
  const Tensor weight = random_tensor({8, 4}, 2);
  for (const bool sliced : {false, true}) {
    fn::CrossEntropyOptions options{.valid = 6, .shard = fn::VocabularyShard{}};
    if (sliced) options.shard->slices = fn::Slices{.local = 4};
    check_gradients("linear_cross_entropy, x",
                    [&](const Tensors& in) {
                      return Tensors{fn::linear_cross_entropy(in[0], leaf_of(weight), labels, weights, options)};
                    },
                    {random_tensor({4, 4}, 1)});
  }
}

BOOST_AUTO_TEST_CASE(the_loss_module_takes_its_input_through_wrappers) {
  const Problem p(6, 4, 30, 32, Dtype::f32);
  nn::Parameter head;
  head.value = p.weight;
  nn::CausalLoss loss("loss", head, 30);
  BOOST_TEST(loss.parameters().empty());
  nn::StepContext context;
  context.labels = p.labels;
  context.loss_weight = p.loss_weight;
  const auto expected = [&](float factor) {
    return fn::linear_cross_entropy(fn::scale(p.x, factor), p.weight, p.labels, p.loss_weight, {.valid = 30});
  };
  BOOST_TEST(same_bits(loss(p.x, context), expected(1)));
  loss.wrap([](const Tensor& x, const nn::Module::Next& next) { return next(fn::scale(x, 2.0f)); });
  BOOST_TEST(same_bits(loss(p.x, context), expected(2)));
  // Two halves of the vocabulary, each knowing the other's statistics only.
  Tensor statistics[2];
  for (const int pass : {0, 1})
    for (const int half : {0, 1}) {
      nn::Parameter rows;
      rows.value = p.weight.narrow(0, 16 * half, 16);
      nn::CausalLoss part("loss", rows, 30);
      part.shard(fn::VocabularyShard{.offset = 16 * half, .gather = [&](const Tensor& own) {
                                       statistics[half] = own;
                                       Tensor all = Tensor::empty({2, 3, 6}, Dtype::f32);
                                       for (int i : {0, 1})
                                         all.narrow(0, i, 1).copy_from(statistics[i].defined() ? statistics[i] : own);
                                       return all;
                                     }});
      const Tensor value = part(p.x, context);
      // Both add up the same numbers in the same order; the whole has 30 terms, in another.
      if (pass == 1) check_close(value, expected(1), {64 * roundoff(Dtype::f32), 64 * roundoff(Dtype::f32)}, "halves");
    }
}
