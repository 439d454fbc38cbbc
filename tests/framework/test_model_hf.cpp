// Qwen3 against transformers and PyTorch: tests/hf/fixture, made by tests/hf/make_fixture.py.

#include <boost/test/unit_test.hpp>
#include <numeric>

#include "framework/train/load_model.h"
#include "framework/train/train_step.h"
#include "tests/framework/batches.h"
#include "tests/support/views.h"

using namespace dujiang;
using namespace dujiang::test;
namespace fs = std::filesystem;

namespace {

constexpr const char* models_made[] = {"untied", "tied"};

struct Fixture {
  fs::path dir;
  train::SafetensorsFile expected;
  data::Batch batch;

  explicit Fixture(const char* name) : dir(fs::path(DUJIANG_FIXTURE) / name), expected(dir / "expected.safetensors") {
    const auto integers = [&](const char* tensor) {
      const Tensor t = expected.read(tensor);
      const auto values = t.data<std::int32_t>();
      return std::vector<std::int32_t>(values.begin(), values.end());
    };
    batch.sequences = expected.entry("tokens").shape[0];
    batch.length = expected.entry("tokens").shape[1];
    batch.tokens = integers("tokens");
    batch.labels = integers("labels");
    batch.positions = integers("positions");
    batch.segments = integers("segments");
    batch.loss_weight = expected.read("loss_weight").floats();
    batch.weight_sum = std::accumulate(batch.loss_weight.begin(), batch.loss_weight.end(), 0.0);
  }
};

Tensor all_logits(models::Qwen3& model, const data::Batch& batch) {
  const autograd::NoGrad guard;
  const auto input = train::model_input(batch);
  return model.logits(model(input.tokens, input.context));
}

double largest(const Tensor& t) {
  double most = 0;
  for (const float x : t.floats()) most = std::max(most, std::abs(static_cast<double>(x)));
  return most;
}

double largest_difference(const Tensor& a, const Tensor& b) {
  const auto x = a.floats(), y = b.floats();
  BOOST_TEST_REQUIRE(x.size() == y.size());
  double most = 0;
  for (std::size_t i = 0; i < x.size(); ++i) most = std::max(most, std::abs(static_cast<double>(x[i]) - y[i]));
  return most;
}

// fp32 rounding: sums of some hundred products on the way through two layers, in another order than PyTorch's, whose
// rounding grows with the square root of their number: 64 units of the largest value.
double fp32_bound(const Tensor& expected) {
  return 64 * roundoff(Dtype::f32) * largest(expected);
}

train::OptimizerSection fixture_optimizer() {
  train::OptimizerSection section;
  section.lr = 1e-3;
  section.betas = {0.9, 0.95};
  section.eps = 1e-8;
  section.weight_decay = 0.1;
  section.grad_clip = 1.0;
  return section;
}

}  // namespace

BOOST_AUTO_TEST_CASE(fp32_logits_equal_those_of_transformers_to_rounding) {
  for (const auto* name : models_made) {
    const Fixture fixture(name);
    const auto model = train::load_model(fixture.dir, Dtype::f32);
    const Tensor expected = fixture.expected.read("logits");
    const Tensor actual = all_logits(*model, fixture.batch);
    BOOST_TEST_REQUIRE((actual.shape() == expected.shape()));
    BOOST_TEST(largest_difference(actual, expected) <= fp32_bound(expected), name);
  }
}

BOOST_AUTO_TEST_CASE(bf16_logits_are_as_near_to_fp32_as_those_of_transformers) {
  for (const auto* name : models_made) {
    const Fixture fixture(name);
    const auto model = train::load_model(fixture.dir, Dtype::bf16);
    const Tensor exact = fixture.expected.read("logits");
    const double theirs = largest_difference(fixture.expected.read("bf16_logits"), exact);
    const double ours = largest_difference(all_logits(*model, fixture.batch), exact);
    // Both round at every op; which one meets the unluckier roundings is chance, hence the factor.
    BOOST_TEST(ours <= 1.5 * theirs, name << ": ours " << ours << ", transformers' " << theirs);
    BOOST_TEST(ours > 0.0);
  }
}

BOOST_AUTO_TEST_CASE(fp32_loss_and_every_gradient_equal_those_of_pytorch_to_rounding) {
  for (const auto* name : models_made) {
    const Fixture fixture(name);
    const auto model = train::load_model(fixture.dir, Dtype::f32);
    for (auto* p : model->parameters()) autograd::require_grad(p->value);
    const auto input = train::model_input(fixture.batch);
    const auto divisor = static_cast<float>(fixture.batch.weight_sum);
    const Tensor loss = model->loss(input.tokens, input.labels, input.loss_weight, 1.0f / divisor, input.context);
    autograd::backward(loss);
    BOOST_CHECK_CLOSE_FRACTION(loss.item() / divisor, fixture.expected.read("loss").item(), 16 * roundoff(Dtype::f32));
    std::size_t compared = 0;
    for (auto* p : model->parameters()) {
      const Tensor expected = fixture.expected.read("grad." + p->path);
      const Tensor actual = autograd::grad_of(p->value);
      BOOST_TEST_REQUIRE(actual.defined(), p->path);
      BOOST_TEST(largest_difference(actual, expected) <= fp32_bound(expected), name << " " << p->path);
      ++compared;
    }
    BOOST_TEST(compared == model->parameters().size());
  }
}

BOOST_AUTO_TEST_CASE(fp32_weights_after_five_steps_equal_those_of_pytorch_to_rounding) {
  for (const auto* name : models_made) {
    const Fixture fixture(name);
    Trainee trainee(models::from_hf_json(fixture.dir / "config.json"), fixture_optimizer(), train::Precision::fp32);
    trainee.step.load_weights(fixture.dir);
    const auto losses = fixture.expected.read("losses").floats(), norms = fixture.expected.read("norms").floats();
    for (std::size_t s = 0; s < 5; ++s) {
      const auto result = trainee.step.run(fixture.batch, 2, static_cast<std::int64_t>(s) + 1, 1e-3);
      BOOST_CHECK_CLOSE_FRACTION(result.loss, losses[s], 32 * roundoff(Dtype::f32));
      BOOST_CHECK_CLOSE_FRACTION(result.grad_norm, norms[s], 64 * roundoff(Dtype::f32));
    }
    for (const auto& [path, value] : trainee.weights()) {
      // A step moves a weight by about lr * m / sqrt(v), five of them by 5e-3 in all. Where a gradient is as small as
      // its own rounding the quotient is uncertain, so the bound is a thousandth of that way.
      BOOST_TEST(largest_difference(value, fixture.expected.read("after." + path)) <= 5e-6, name << " " << path);
    }
  }
}

BOOST_AUTO_TEST_CASE(bf16_steps_stay_near_those_of_fp32) {
  for (const auto* name : models_made) {
    const Fixture fixture(name);
    Trainee trainee(models::from_hf_json(fixture.dir / "config.json"), fixture_optimizer(), train::Precision::bf16);
    trainee.step.load_weights(fixture.dir);
    const auto losses = fixture.expected.read("losses").floats(), norms = fixture.expected.read("norms").floats();
    for (std::size_t s = 0; s < 5; ++s) {
      const auto result = trainee.step.run(fixture.batch, 2, static_cast<std::int64_t>(s) + 1, 1e-3);
      // One part in 2^9 per rounding of an activation; the loss is a mean over 28 tokens of independent errors.
      BOOST_CHECK_CLOSE_FRACTION(result.loss, losses[s], 0.01);
      BOOST_CHECK_CLOSE_FRACTION(result.grad_norm, norms[s], 0.03);
    }
    // The fp32 masters, not the bf16 copies, carry the updates: each lies within the 5e-3 that five steps move, and on
    // the whole far nearer.
    double distance = 0, moved = 0;
    const train::SafetensorsFile before(fixture.dir / "model.safetensors");
    for (const auto& [state, tensor] : trainee.optimizer_state()) {
      if (!state.ends_with(".master")) continue;
      const std::string path = state.substr(0, state.size() - 7);
      const auto start = before.read(path).floats(), after = fixture.expected.read("after." + path).floats();
      const auto ours = tensor.floats();
      for (std::size_t i = 0; i < ours.size(); ++i) {
        distance += std::pow(ours[i] - after[i], 2);
        moved += std::pow(after[i] - start[i], 2);
      }
    }
    BOOST_TEST(moved > 0.0);
    BOOST_TEST(std::sqrt(distance / moved) < 0.25, name << ": " << std::sqrt(distance / moved));
  }
}

BOOST_AUTO_TEST_CASE(logits_with_a_cache_equal_the_full_forward) {
  for (const auto* name : models_made) {
    const Fixture fixture(name);
    const auto model = train::load_model(fixture.dir, Dtype::f32);
    data::Batch row = fixture.batch.slice(0, 1);  // one document of 16 tokens
    const Tensor full = all_logits(*model, row);
    const autograd::NoGrad guard;
    for (const auto& chunks : {std::vector<std::int64_t>(16, 1), {7, 1, 1, 5, 2}, {16}}) {
      auto cache = model->make_cache(1, 16, Dtype::f32);
      cache.stepping = {0};
      for (const auto n : chunks) {
        const std::int64_t at = cache.lengths[0];
        nn::StepContext context;
        const auto slice = [&](const std::vector<std::int32_t>& v) {
          return Tensor::of<std::int32_t>(
              std::span(v).subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(n)), {n});
        };
        context.positions = slice(row.positions);
        context.segments = std::make_shared<const std::vector<std::int32_t>>(
            std::vector<std::int32_t>{0, static_cast<std::int32_t>(n)});
        context.cache = &cache;
        const Tensor part = model->logits((*model)(slice(row.tokens), context));
        BOOST_TEST(largest_difference(part, full.narrow(0, at, n)) <= fp32_bound(full), name << " at " << at);
      }
      BOOST_TEST(cache.lengths[0] == 16);
      nn::StepContext context;
      context.positions = Tensor::of<std::int32_t>(std::vector<std::int32_t>{16}, {1});
      context.segments = std::make_shared<const std::vector<std::int32_t>>(std::vector<std::int32_t>{0, 1});
      context.cache = &cache;
      BOOST_CHECK_THROW((*model)(Tensor::of<std::int32_t>(std::vector<std::int32_t>{1}, {1}), context), Error);
    }
  }
}
