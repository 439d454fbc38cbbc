// Choosing tokens, one by one.

#include <boost/test/unit_test.hpp>
#include <numeric>
#include <set>

#include "framework/train/generate.h"
#include "tests/framework/batches.h"

using namespace dujiang;
using namespace dujiang::test;
using train::generate;
using train::GenerateOptions;
using train::sample;
using Tokens = std::vector<std::int32_t>;

namespace {

constexpr std::int64_t vocabulary = 50;

/// A model that has learnt a little, so that its choices are not ties.
models::Qwen3& model() {
  static Trainee trainee(tiny_model(vocabulary), adamw(1e-2), train::Precision::fp32);
  static const bool trained = [] {
    for (std::int64_t s = 1; s <= 20; ++s) trainee.step.run(markov_batch(8, 32, vocabulary, s), 8, s, 1e-2);
    return true;
  }();
  (void)trained;
  return trainee.model;
}

/// A model of large random weights, whose attention depends on the positions much more than a young model's.
models::Qwen3& sharp_model() {
  static auto config = tiny_model(vocabulary);
  config.initializer_range = 0.6;
  static Trainee trainee(config, adamw(), train::Precision::fp32);
  return trainee.model;
}

std::vector<float> logits_after(models::Qwen3& model, const Tokens& tokens) {
  const autograd::NoGrad guard;
  const auto n = static_cast<std::int64_t>(tokens.size());
  Tokens positions(tokens.size());
  std::iota(positions.begin(), positions.end(), 0);
  nn::StepContext context;
  context.positions = Tensor::of<std::int32_t>(positions, {n});
  context.segments = std::make_shared<const Tokens>(Tokens{0, static_cast<std::int32_t>(n)});
  const Tensor hidden = model(Tensor::of<std::int32_t>(tokens, {n}), context);
  return model.logits(hidden.narrow(0, n - 1, 1)).floats();
}

/// How often each token is drawn in `draws` tries.
std::vector<double> shares(const std::vector<float>& logits, const GenerateOptions& options, int draws) {
  std::vector<double> counts(logits.size(), 0.0);
  for (int i = 0; i < draws; ++i)
    counts[static_cast<std::size_t>(sample(logits, {}, options, static_cast<std::uint64_t>(i)))] += 1.0 / draws;
  return counts;
}

}  // namespace

BOOST_AUTO_TEST_CASE(greedy_text_is_the_argmax_of_full_forward_passes) {
  const Tokens prompt{3, 14, 15, 9};
  for (auto* m : {&model(), &sharp_model()}) {
    const Tokens text = generate(*m, prompt, {}, {.max_new_tokens = 40, .temperature = 0});
    BOOST_TEST_REQUIRE(text.size() == 40u);
    Tokens all = prompt;
    for (const auto token : text) {
      const auto logits = logits_after(*m, all);
      BOOST_TEST(token == std::max_element(logits.begin(), logits.end()) - logits.begin());
      all.push_back(token);
    }
    BOOST_TEST(std::set<std::int32_t>(text.begin(), text.end()).size() > 2u);  // no loop of one token
  }
}

BOOST_AUTO_TEST_CASE(text_is_a_function_of_the_seed) {
  const Tokens prompt{1, 2};
  GenerateOptions options{.max_new_tokens = 30, .temperature = 1.3, .top_k = 20, .top_p = 0.95, .seed = 4};
  const Tokens text = generate(model(), prompt, {}, options);
  BOOST_TEST(text == generate(model(), prompt, {}, options));
  options.max_new_tokens = 10;  // a shorter text is the longer one's beginning
  BOOST_TEST(generate(model(), prompt, {}, options) == Tokens(text.begin(), text.begin() + 10));
  options.seed = 5;
  BOOST_TEST(generate(model(), prompt, {}, options) != Tokens(text.begin(), text.begin() + 10));
}

BOOST_AUTO_TEST_CASE(draws_follow_the_softmax_at_the_temperature) {
  const std::vector<float> logits{0.0f, 1.0f, 2.0f, -1.0f};
  constexpr int draws = 20000;
  for (const double temperature : {1.0, 0.5, 2.0}) {
    double total = 0;
    for (const float x : logits) total += std::exp(x / temperature);
    const auto drawn = shares(logits, {.temperature = temperature, .seed = 2}, draws);
    for (std::size_t i = 0; i < logits.size(); ++i) {
      const double p = std::exp(logits[i] / temperature) / total;
      BOOST_CHECK_SMALL(drawn[i] - p, 5 * std::sqrt(p * (1 - p) / draws));  // five standard errors
    }
  }
}

BOOST_AUTO_TEST_CASE(top_k_and_top_p_cut_the_unlikely) {
  const std::vector<float> logits{0.0f, 3.0f, 2.0f, 1.0f, 2.0f};
  const auto allowed = [&](const GenerateOptions& options) {
    std::set<std::size_t> tokens;
    const auto drawn = shares(logits, options, 3000);
    for (std::size_t i = 0; i < drawn.size(); ++i)
      if (drawn[i] > 0) tokens.insert(i);
    return tokens;
  };
  using Set = std::set<std::size_t>;
  BOOST_TEST(allowed({}) == (Set{0, 1, 2, 3, 4}));
  BOOST_TEST(allowed({.top_k = 1}) == Set{1});
  BOOST_TEST(allowed({.top_k = 2}) == (Set{1, 2}));  // of equals, the lower number
  BOOST_TEST(allowed({.top_k = 100}) == (Set{0, 1, 2, 3, 4}));
  // Shares 0.51, 0.19, 0.19, 0.07, 0.03.
  BOOST_TEST(allowed({.top_p = 0.5}) == Set{1});
  BOOST_TEST(allowed({.top_p = 0.6}) == (Set{1, 2}));
  BOOST_TEST(allowed({.top_p = 0.8}) == (Set{1, 2, 4}));
  BOOST_TEST(allowed({.top_p = 1e-9}) == Set{1});
  BOOST_TEST(allowed({.top_k = 2, .top_p = 0.99}) == (Set{1, 2}));
}

BOOST_AUTO_TEST_CASE(top_k_and_top_p_keep_as_many_of_a_flat_distribution) {
  // 300 tokens, rising logits in a shuffled order: which are kept follows from their order alone.
  constexpr std::size_t tokens = 300;
  std::vector<float> logits(tokens);
  for (std::size_t i = 0; i < tokens; ++i) logits[i] = 1e-3f * static_cast<float>(i * 77 % tokens);
  const auto kept = [&](const GenerateOptions& options) {
    std::vector<std::size_t> ranks;
    const auto drawn = shares(logits, options, 20000);
    for (std::size_t i = 0; i < tokens; ++i)
      if (drawn[i] > 0) ranks.push_back(tokens - 1 - i * 77 % tokens);
    std::sort(ranks.begin(), ranks.end());
    BOOST_TEST(ranks.back() + 1 == ranks.size());  // the likeliest, none left out
    return ranks.size();
  };
  for (const int k : {1, 63, 64, 65, 128, 129, 299}) BOOST_TEST(kept({.top_k = k}) == static_cast<std::size_t>(k));
  BOOST_TEST(kept({}) == tokens);
  // Half of the weight: the sum of exp(-i / 1000) over the first n is half of that over all for n = 139.
  BOOST_TEST(kept({.top_p = 0.5}) == 139u);
}

BOOST_AUTO_TEST_CASE(greedy_choice_is_the_first_of_the_likeliest) {
  for (const std::size_t n : {std::size_t{1}, std::size_t{15}, std::size_t{16}, std::size_t{50}}) {
    for (std::size_t top = 0; top < n; ++top) {
      std::vector<float> logits(n, -2.0f);
      logits[top] = logits[n - 1] = -1.0f;
      BOOST_TEST(sample(logits, {}, {.temperature = 0}, 0) == static_cast<std::int32_t>(top));
    }
  }
}

BOOST_AUTO_TEST_CASE(the_repetition_penalty_lowers_seen_tokens_once) {
  const std::vector<float> logits{2.0f, 1.5f, -1.0f};
  const auto greedy = [&](const Tokens& seen, double penalty, const std::vector<float>& l) {
    return sample(l, seen, {.temperature = 0, .repetition_penalty = penalty}, 0);
  };
  BOOST_TEST(greedy({0, 0, 0}, 1.0, logits) == 0);
  BOOST_TEST(greedy({0, 0, 0}, 1.2, logits) == 0);  // 2 / 1.2 > 1.5: thrice seen counts once
  BOOST_TEST(greedy({0}, 1.5, logits) == 1);
  BOOST_TEST(greedy({0}, 1.5, {-1.0f, -1.2f}) == 1);  // a negative logit is multiplied
}

BOOST_AUTO_TEST_CASE(a_batch_becomes_what_its_prompts_become_alone) {
  // The last prompt leaves room for five tokens: 64 positions, and the last new token needs none.
  const std::vector<Tokens> prompts{{3, 14, 15, 9}, {2}, {7, 1, 8, 2, 8, 1, 8, 2, 8}, Tokens(60, 4)};
  for (auto* m : {&model(), &sharp_model()}) {
    for (const double temperature : {0.0, 1.0}) {
      GenerateOptions options{.max_new_tokens = 25, .temperature = temperature, .seed = 11};
      const Tokens first = generate(*m, prompts[0], {}, options);
      const Tokens stop{first[9], 49};  // some end there, at a step of their own
      const auto batch = train::generate_batch(*m, prompts, stop, options);
      BOOST_TEST_REQUIRE(batch.size() == prompts.size());
      std::set<std::size_t> lengths;
      for (std::size_t i = 0; i < prompts.size(); ++i) {
        auto alone = options;
        alone.seed += i;
        BOOST_TEST(batch[i] == generate(*m, prompts[i], stop, alone), "prompt " << i << " at " << temperature);
        lengths.insert(batch[i].size());
      }
      BOOST_TEST(lengths.size() > 1u);
      BOOST_TEST(batch[3].size() <= 5u);
    }
  }
}

BOOST_AUTO_TEST_CASE(equal_prompts_of_a_batch_draw_different_texts) {
  const std::vector<Tokens> prompts(3, Tokens{1, 2});
  const auto texts = train::generate_batch(model(), prompts, {}, {.max_new_tokens = 20});
  BOOST_TEST((texts[0] != texts[1] && texts[1] != texts[2] && texts[0] != texts[2]));
}

BOOST_AUTO_TEST_CASE(one_text_of_a_batch_may_end_early_by_wish) {
  const std::vector<Tokens> prompts{{3, 14}, {15, 9}, {2}};
  const GenerateOptions greedy{.max_new_tokens = 12, .temperature = 0};
  const auto whole = train::generate_batch(model(), prompts, {}, greedy);
  std::vector<Tokens> heard(prompts.size());
  const auto cut = train::generate_batch(model(), prompts, {}, greedy, [&](std::size_t i, std::int32_t token) {
    heard[i].push_back(token);
    return i != 1 || heard[i].size() < 4;
  });
  BOOST_TEST(cut[0] == whole[0]);
  BOOST_TEST(cut[1] == Tokens(whole[1].begin(), whole[1].begin() + 4));
  BOOST_TEST(cut[2] == whole[2]);
  BOOST_TEST((heard == cut));
  BOOST_TEST(train::generate_batch(model(), {}, {}, greedy).empty());
  const std::vector<Tokens> one_empty{{1}, {}};
  BOOST_CHECK_THROW(train::generate_batch(model(), one_empty, {}, greedy), UserError);
}

BOOST_AUTO_TEST_CASE(text_ends_at_a_stop_token_a_wish_or_the_last_position) {
  const Tokens prompt{3, 14, 15, 9};
  const GenerateOptions greedy{.max_new_tokens = 20, .temperature = 0};
  const Tokens text = generate(model(), prompt, {}, greedy);
  const Tokens stop{text[7]};
  const auto first = std::find(text.begin(), text.end(), text[7]);
  BOOST_TEST(generate(model(), prompt, stop, greedy) == Tokens(text.begin(), first));
  Tokens heard;
  const Tokens four = generate(model(), prompt, {}, greedy, [&](std::int32_t token) {
    heard.push_back(token);
    return heard.size() < 4;
  });
  BOOST_TEST(four == Tokens(text.begin(), text.begin() + 4));
  BOOST_TEST(heard == four);

  // 64 positions: 60 are fed, the last token needs none.
  const auto positions = static_cast<std::size_t>(model().config().max_position_embeddings);
  const Tokens all = generate(model(), prompt, {}, {.max_new_tokens = 1000, .temperature = 0});
  BOOST_TEST(all.size() == positions - prompt.size() + 1);
  BOOST_TEST(Tokens(all.begin(), all.begin() + 20) == text);
  BOOST_TEST(generate(model(), prompt, {}, {.max_new_tokens = 0}).empty());
  BOOST_CHECK_THROW(generate(model(), {}, {}, greedy), UserError);
  BOOST_CHECK_THROW(generate(model(), Tokens(positions, 1), {}, greedy), UserError);
  BOOST_TEST(generate(model(), Tokens(positions - 1, 1), {}, greedy).size() <= 2u);
}
