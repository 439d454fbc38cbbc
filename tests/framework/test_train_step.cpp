// One optimizer step: micro-batches, groups, loss scaling, errors, schedules.

#include <boost/test/unit_test.hpp>

#include "comm/host/thread_communicator.h"
#include "framework/train/lr_schedule.h"
#include "tests/framework/batches.h"
#include "tests/support/views.h"

using namespace dujiang;
using namespace dujiang::test;
using train::Precision;

namespace {

constexpr std::int64_t vocabulary = 50, length = 16;

models::ModelConfig model_config() {
  return tiny_model(vocabulary);
}

std::vector<float> weights_of(const Trainee& trainee) {
  std::vector<float> all;
  for (const auto& [path, tensor] : trainee.weights()) {
    const auto values = tensor.floats();
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

double relative_distance(const std::vector<float>& a, const std::vector<float>& b) {
  BOOST_TEST_REQUIRE(a.size() == b.size());
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
    size += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(difference / size);
}

nn::Parameter& parameter(models::Qwen3& model, const std::string& path) {
  for (auto* p : model.parameters())
    if (p->path == path) return *p;
  fail("no parameter {}", path);
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const std::exception& e) {
    return e.what();
  }
  return "<no error>";
}

bool has(const std::string& text, const std::string& part) {
  const bool found = text.find(part) != std::string::npos;
  if (!found) BOOST_TEST_MESSAGE(text);
  return found;
}

}  // namespace

BOOST_AUTO_TEST_CASE(gradient_accumulation_equals_the_big_micro_batch) {
  // 7 rows of unequal numbers of labels: micro-batches of 1, of 3 (the last is smaller) and of 7.
  const auto run = [](std::int64_t micro_batch) {
    Trainee trainee(model_config(), adamw(), Precision::fp32);
    std::vector<double> losses, norms;
    for (std::int64_t s = 1; s <= 3; ++s) {
      const auto result = trainee.step.run(markov_batch(7, length, vocabulary, s), micro_batch, s, 3e-3);
      losses.push_back(result.loss);
      norms.push_back(result.grad_norm);
    }
    return std::tuple(losses, norms, weights_of(trainee));
  };
  const auto [losses, norms, weights] = run(7);
  for (const std::int64_t micro_batch : {1, 3}) {
    const auto [l, n, w] = run(micro_batch);
    for (std::size_t s = 0; s < 3; ++s) {
      // Sums over 100 tokens in another order.
      BOOST_CHECK_CLOSE_FRACTION(l[s], losses[s], 16 * roundoff(Dtype::f32));
      BOOST_CHECK_CLOSE_FRACTION(n[s], norms[s], 64 * roundoff(Dtype::f32));
    }
    // Adam turns the rounding of a vanishing gradient into a part of a step (1e-2 of the weights' size each).
    BOOST_TEST(relative_distance(w, weights) < 1e-4, "micro-batch " << micro_batch);
  }
}

BOOST_AUTO_TEST_CASE(ranks_with_unequal_parts_weigh_every_token_equally) {
  // Each rank's part has another number of labels: an average of averages would differ.
  const auto whole = [](std::int64_t s) { return markov_batch(6, length, vocabulary, s); };
  std::vector<double> expected, norms;
  Trainee alone(model_config(), adamw(), Precision::fp32);
  for (std::int64_t s = 1; s <= 3; ++s) {
    const auto result = alone.step.run(whole(s), 6, s, 3e-3);
    expected.push_back(result.loss);
    norms.push_back(result.grad_norm);
  }
  for (const int ranks : {2, 3}) {
    comm::run_threads(ranks, [&](comm::Communicator& communicator) {
      models::Qwen3 model(model_config());
      train::TrainStep step(model, communicator, {.optimizer = adamw(), .precision = Precision::fp32});
      step.initialise(5);
      for (std::int64_t s = 1; s <= 3; ++s) {
        const auto share = 6 / ranks;
        const auto part = whole(s).slice(share * communicator.rank(), share);
        const auto result = step.run(part, 2, s, 3e-3);
        const auto i = static_cast<std::size_t>(s - 1);
        DUJIANG_CHECK(std::abs(result.loss / expected[i] - 1) < 16 * roundoff(Dtype::f32), "step {}: loss {}, alone {}",
                      s, result.loss, expected[i]);
        DUJIANG_CHECK(std::abs(result.grad_norm / norms[i] - 1) < 64 * roundoff(Dtype::f32),
                      "step {}: norm {}, alone {}", s, result.grad_norm, norms[i]);
      }
    });
  }
}

BOOST_AUTO_TEST_CASE(frozen_parameters_do_not_change_and_have_no_state) {
  auto optimizer = adamw();
  optimizer.groups = {{.match = "model.embed_tokens.*", .weight_decay = {}, .trainable = false},
                      {.match = "*.layers.0.*", .weight_decay = {}, .trainable = false}};
  for (const auto precision : {Precision::fp32, Precision::bf16}) {
    Trainee trainee(tiny_model(vocabulary, false), optimizer, precision);
    Trainee free(tiny_model(vocabulary, false), adamw(), precision);
    std::map<std::string, std::vector<float>> before;
    for (const auto& [path, tensor] : trainee.weights()) before[path] = tensor.floats();
    const auto batch = markov_batch(4, length, vocabulary, 1);
    const auto result = trainee.step.run(batch, 2, 1, 3e-3), free_result = free.step.run(batch, 2, 1, 3e-3);
    BOOST_TEST(result.loss == free_result.loss);  // the same start
    BOOST_TEST(result.grad_norm < free_result.grad_norm);
    std::size_t frozen = 0;
    for (const auto& [path, tensor] : trainee.weights()) {
      const bool still = path.starts_with("model.embed_tokens") || path.starts_with("model.layers.0.");
      frozen += still;
      BOOST_TEST((tensor.floats() == before[path]) == still, path);
    }
    BOOST_TEST(frozen == 12u);
    for (const auto& [name, tensor] : trainee.optimizer_state())
      BOOST_TEST(!(name.starts_with("model.embed_tokens") || name.starts_with("model.layers.0.")), name);
    BOOST_TEST(trainee.optimizer_state().size() < free.optimizer_state().size());
    for (auto* p : trainee.model.parameters())
      if (!p->trainable) BOOST_TEST(!autograd::grad_of(p->value).defined(), p->path);
  }
}

BOOST_AUTO_TEST_CASE(groups_set_decay_and_rate_by_the_first_pattern_that_matches) {
  auto optimizer = adamw();
  optimizer.weight_decay = 0.1;
  optimizer.groups = {{.match = "*.q_proj.weight", .lr_scale = 0.0, .weight_decay = {}},
                      {.match = "model.layers.*", .lr_scale = 0.5, .weight_decay = 0.2}};
  Trainee trainee(model_config(), optimizer, Precision::fp32);
  const auto group = [&](const std::string& path) { return parameter(trainee.model, path).group; };
  BOOST_TEST((group("model.layers.0.self_attn.q_proj.weight") == nn::Group{0.0f, 0.1f}));
  BOOST_TEST((group("model.layers.1.self_attn.k_proj.weight") == nn::Group{0.5f, 0.2f}));
  BOOST_TEST((group("model.layers.1.input_layernorm.weight") == nn::Group{0.5f, 0.2f}));
  BOOST_TEST((group("model.norm.weight") == nn::Group{1.0f, 0.0f}));  // norms do not decay
  BOOST_TEST((group("model.embed_tokens.weight") == nn::Group{1.0f, 0.1f}));

  // A rate of zero leaves the weights as they are; the others move by at most lr * (1 + decay) in the first step.
  const auto q = parameter(trainee.model, "model.layers.0.self_attn.q_proj.weight").value.floats();
  const auto k = parameter(trainee.model, "model.layers.0.self_attn.k_proj.weight").value.floats();
  const auto e = parameter(trainee.model, "model.embed_tokens.weight").value.floats();
  trainee.step.run(markov_batch(4, length, vocabulary, 1), 4, 1, 1e-2);
  const auto moved = [&](const std::string& path, const std::vector<float>& before) {
    const auto after = parameter(trainee.model, path).value.floats();
    double most = 0;
    for (std::size_t i = 0; i < after.size(); ++i)
      most = std::max(most, std::abs(static_cast<double>(after[i]) - before[i]));
    return most;
  };
  BOOST_TEST(moved("model.layers.0.self_attn.q_proj.weight", q) == 0.0);
  BOOST_CHECK_CLOSE_FRACTION(moved("model.layers.0.self_attn.k_proj.weight", k), 5e-3, 0.1);
  BOOST_CHECK_CLOSE_FRACTION(moved("model.embed_tokens.weight", e), 1e-2, 0.1);

  const auto refusal = [](std::vector<train::ParameterGroup> groups) {
    auto section = adamw();
    section.groups = std::move(groups);
    return message_of([&] { Trainee(model_config(), section, Precision::fp32); });
  };
  BOOST_TEST(has(refusal({{.match = "*.w_proj.weight", .weight_decay = {}}}), "*.w_proj.weight"));
  BOOST_TEST(has(refusal({{.match = "*", .weight_decay = {}, .trainable = false}}), "trainable"));
}

BOOST_AUTO_TEST_CASE(clipping_scales_the_whole_gradient) {
  // Without decay and with eps far above the gradients, AdamW's first step is proportional to the clipped gradient.
  const auto first_step = [](double clip) {
    auto optimizer = adamw();
    optimizer.grad_clip = clip;
    optimizer.weight_decay = 0;
    optimizer.eps = 1e6;
    Trainee trainee(model_config(), optimizer, Precision::fp32);
    auto before = weights_of(trainee);
    const auto result = trainee.step.run(markov_batch(4, length, vocabulary, 1), 4, 1, 1e5);
    auto after = weights_of(trainee);
    for (std::size_t i = 0; i < after.size(); ++i) after[i] -= before[i];
    return std::pair(result.grad_norm, after);
  };
  const auto [norm, free] = first_step(0);
  const auto [same_norm, clipped] = first_step(norm / 4);
  const auto [again, unclipped] = first_step(norm * 1.01);
  BOOST_TEST(norm == same_norm);  // reported before clipping
  auto quarter = free;
  for (auto& x : quarter) x *= 0.25f;
  BOOST_TEST(relative_distance(clipped, quarter) < 1e-4);  // the differences of weights carry the weights' rounding
  BOOST_TEST(unclipped == free);
}

BOOST_AUTO_TEST_CASE(an_overflow_in_fp16_skips_the_step_and_halves_the_scale) {
  Trainee trainee(model_config(), adamw(), Precision::fp16);
  BOOST_TEST(trainee.step.loss_scale().scale == 65536.0);
  const auto batch = markov_batch(4, length, vocabulary, 1);
  const auto good = trainee.step.run(batch, 2, 1, 3e-3);
  BOOST_TEST(!good.skipped);
  BOOST_TEST(trainee.step.loss_scale().good_steps == 1);

  trainee.step.set_loss_scale({.scale = 0x1p40, .good_steps = 7});
  const auto before = weights_of(trainee);
  std::vector<std::vector<float>> state;
  for (const auto& [name, tensor] : trainee.optimizer_state()) state.push_back(tensor.floats());
  const auto skipped = trainee.step.run(batch, 2, 2, 3e-3);
  BOOST_TEST(skipped.skipped);
  BOOST_TEST(std::isfinite(skipped.loss));
  BOOST_TEST(trainee.step.loss_scale().scale == 0x1p39);
  BOOST_TEST(trainee.step.loss_scale().good_steps == 0);
  BOOST_TEST(weights_of(trainee) == before);
  std::size_t i = 0;
  for (const auto& [name, tensor] : trainee.optimizer_state()) BOOST_TEST(tensor.floats() == state[i++], name);

  // It comes down to where gradients fit, and trains on.
  train::StepResult result;
  for (std::int64_t s = 3; s < 40; ++s) result = trainee.step.run(batch, 2, s, 3e-3);
  BOOST_TEST(!result.skipped);
  BOOST_TEST(result.loss < good.loss);

  train::LossScale scale{.scale = 1024, .good_steps = 0};
  for (std::int64_t s = 1; s < train::LossScale::interval; ++s) scale.update(false);
  BOOST_TEST(scale.scale == 1024.0);
  scale.update(false);
  BOOST_TEST(scale.scale == 2048.0);
  for (int s = 0; s < 20; ++s) scale.update(true);
  BOOST_TEST(scale.scale == 1.0);  // never below
}

BOOST_AUTO_TEST_CASE(half_precision_follows_fp32) {
  const auto losses = [](Precision precision) {
    Trainee trainee(model_config(), adamw(), precision);
    std::vector<double> all;
    for (std::int64_t s = 1; s <= 20; ++s)
      all.push_back(trainee.step.run(markov_batch(6, length, vocabulary, s), 3, s, 3e-3).loss);
    return all;
  };
  const auto exact = losses(Precision::fp32), bf16 = losses(Precision::bf16), fp16 = losses(Precision::fp16);
  BOOST_TEST(exact.back() < 0.95 * exact.front());
  for (std::size_t s = 0; s < exact.size(); ++s) {
    // A mean over 90 tokens of errors of some 2^-9 (bf16) or 2^-12 (fp16) of a logit each.
    BOOST_CHECK_CLOSE_FRACTION(bf16[s], exact[s], 5e-3);
    BOOST_CHECK_CLOSE_FRACTION(fp16[s], exact[s], 1e-3);
  }
}

BOOST_AUTO_TEST_CASE(a_loss_that_is_not_finite_names_step_rank_and_tensor) {
  const auto batch = markov_batch(4, length, vocabulary, 1);
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  for (const std::string path : {"model.layers.1.mlp.up_proj.weight", "model.norm.weight"}) {
    const auto message = message_of([&] {
      Trainee trainee(model_config(), adamw(), Precision::bf16);
      parameter(trainee.model, path).value.narrow(0, 3, 1).fill(nan);
      trainee.step.run(batch, 2, 17, 3e-3);
    });
    BOOST_TEST(has(message, "step 17"));
    BOOST_TEST(has(message, "rank 0"));
    BOOST_TEST(has(message, path));
  }
  // Sound weights whose activations overflow: the module whose output is the first to be bad.
  const auto overflow = message_of([&] {
    Trainee trainee(model_config(), adamw(), Precision::fp16);
    parameter(trainee.model, "model.layers.1.mlp.up_proj.weight").value.fill(6e4f);
    trainee.step.run(batch, 2, 3, 3e-3);
  });
  BOOST_TEST(has(overflow, "step 3"));
  BOOST_TEST(has(overflow, "model.layers.1.mlp"));
  // A finite loss with a gradient that is not: 1e30 squared in the gradient of a product.
  BOOST_CHECK_THROW(
      [&] {
        Trainee trainee(model_config(), adamw(), Precision::fp32);
        auto bad = batch;
        bad.loss_weight[20] = 3e38f;
        trainee.step.run(bad, 4, 1, 3e-3);
      }(),
      Error);
  // On one rank of two: that rank's message ends the job.
  const auto message = message_of([&] {
    comm::run_threads(2, [&](comm::Communicator& communicator) {
      models::Qwen3 model(model_config());
      train::TrainStep step(model, communicator, {.optimizer = adamw(), .precision = Precision::fp32});
      step.initialise(5);
      if (communicator.rank() == 1) parameter(model, "model.layers.0.mlp.gate_proj.weight").value.fill(nan);
      step.run(batch.slice(2 * communicator.rank(), 2), 2, 4, 3e-3);
    });
  });
  BOOST_TEST(has(message, "step 4, rank 1"));
  BOOST_TEST(has(message, "model.layers.0.mlp.gate_proj.weight"));
}

BOOST_AUTO_TEST_CASE(fresh_weights_are_a_function_of_seed_and_path) {
  Trainee a(model_config(), adamw(), Precision::fp32, 5), b(model_config(), adamw(), Precision::fp32, 5);
  Trainee c(model_config(), adamw(), Precision::fp32, 6), half(model_config(), adamw(), Precision::bf16, 5);
  BOOST_TEST(weights_of(a) == weights_of(b));
  BOOST_TEST(weights_of(a) != weights_of(c));
  const auto& q = parameter(a.model, "model.layers.0.self_attn.q_proj.weight");
  const auto& k = parameter(a.model, "model.layers.1.self_attn.q_proj.weight");
  BOOST_TEST(q.value.floats() != k.value.floats());
  double sum = 0, squares = 0;
  for (const float x : q.value.floats()) {
    sum += x;
    squares += x * x;
  }
  const auto n = static_cast<double>(q.value.count());  // 1024 draws: within 5 standard errors
  BOOST_CHECK_SMALL(sum / n, 5 * 0.08 / std::sqrt(n));
  BOOST_CHECK_CLOSE_FRACTION(std::sqrt(squares / n), 0.08, 5 / std::sqrt(2 * n));
  // bf16 starts from the same masters, rounded.
  BOOST_TEST(same_bits(q.value.to(Dtype::bf16), parameter(half.model, q.path).value));
  for (const float x : parameter(a.model, "model.norm.weight").value.floats()) BOOST_TEST(x == 1.0f);
}

BOOST_AUTO_TEST_CASE(schedules_hit_their_corner_points) {
  using train::learning_rate;
  using train::ScheduleName;
  const auto exact = boost::test_tools::tolerance(1e-12);
  const train::ScheduleSection cosine{.name = ScheduleName::cosine, .warmup = 10, .min_lr = 0.1};
  BOOST_TEST(learning_rate(cosine, 1.0, 1, 110) == 0.1, exact);
  BOOST_TEST(learning_rate(cosine, 1.0, 5, 110) == 0.5, exact);
  BOOST_TEST(learning_rate(cosine, 1.0, 10, 110) == 1.0, exact);
  BOOST_TEST(learning_rate(cosine, 1.0, 35, 110) == 0.1 + 0.9 * (1 + std::sqrt(0.5)) / 2, exact);
  BOOST_TEST(learning_rate(cosine, 1.0, 60, 110) == 0.55, exact);
  BOOST_TEST(learning_rate(cosine, 1.0, 110, 110) == 0.1, exact);
  BOOST_TEST(learning_rate(cosine, 1.0, 111, 110) == 0.1, exact);

  const train::ScheduleSection wsd{.name = ScheduleName::wsd, .warmup = 4, .min_lr = 0.2, .decay = 10};
  BOOST_TEST(learning_rate(wsd, 2.0, 4, 100) == 2.0, exact);
  BOOST_TEST(learning_rate(wsd, 2.0, 50, 100) == 2.0, exact);
  BOOST_TEST(learning_rate(wsd, 2.0, 90, 100) == 2.0, exact);
  BOOST_TEST(learning_rate(wsd, 2.0, 95, 100) == 1.1, exact);
  BOOST_TEST(learning_rate(wsd, 2.0, 100, 100) == 0.2, exact);

  const train::ScheduleSection constant{.name = ScheduleName::constant, .warmup = 0, .min_lr = 0.0};
  BOOST_TEST(learning_rate(constant, 0.7, 1, 10) == 0.7, exact);
  BOOST_TEST(learning_rate(constant, 0.7, 10, 10) == 0.7, exact);
  // No warm-up: a run of one step ends at the minimum at once.
  const train::ScheduleSection bare{.name = ScheduleName::cosine, .warmup = 0, .min_lr = 0.1};
  BOOST_TEST(learning_rate(bare, 1.0, 1, 1) == 0.1, exact);
}
