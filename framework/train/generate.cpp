#include "framework/train/generate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "framework/base/philox.h"
#include "framework/base/threads.h"

namespace dujiang::train {
namespace {

// The logits f32 [sequences, vocabulary] after the last token of each, `tokens[i]` being what sequence
// cache.stepping[i] has that the cache hasn't seen.
Tensor next_logits(models::Qwen3& model, std::span<const std::vector<std::int32_t>> tokens, nn::KeyValueCache& cache) {
  std::vector<std::int32_t> all, positions, offsets{0};
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    all.insert(all.end(), tokens[i].begin(), tokens[i].end());
    positions.resize(all.size());
    std::iota(positions.begin() + offsets.back(), positions.end(),
              static_cast<std::int32_t>(cache.lengths[cache.stepping[i]]));
    offsets.push_back(static_cast<std::int32_t>(all.size()));
  }
  const auto n = static_cast<std::int64_t>(all.size()), sequences = static_cast<std::int64_t>(tokens.size());
  nn::StepContext context;
  context.positions = Tensor::of<std::int32_t>(positions, {n});
  context.segments = std::make_shared<const std::vector<std::int32_t>>(offsets);
  context.cache = &cache;
  Tensor hidden = model(Tensor::of<std::int32_t>(all, {n}), context);
  if (n > sequences) {
    const Tensor last = Tensor::empty({sequences, hidden.size(1)}, hidden.dtype(), hidden.device());
    for (std::int64_t i = 0; i < sequences; ++i)
      last.narrow(0, i, 1).copy_from(hidden.narrow(0, offsets[static_cast<std::size_t>(i) + 1] - 1, 1));
    hidden = last;
  }
  return model.logits(hidden).to(Dtype::f32);
}

// The first of the largest: independent maxima, since one after the other each comparison waits for the last.
std::int32_t likeliest(std::span<const float> logits) {
  constexpr std::size_t lanes = 16;
  float most[lanes];
  std::fill_n(most, lanes, logits[0]);
  std::size_t i = 0;
  for (; i + lanes <= logits.size(); i += lanes)
    for (std::size_t lane = 0; lane < lanes; ++lane) most[lane] = std::max(most[lane], logits[i + lane]);
  for (; i < logits.size(); ++i) most[0] = std::max(most[0], logits[i]);
  const auto found = std::find(logits.begin(), logits.end(), *std::max_element(most, most + lanes));
  return found == logits.end() ? 0 : static_cast<std::int32_t>(found - logits.begin());
}

/// The tokens by score, highest first, equal ones by number. Sorts about as many as were asked for: a draw needs few.
class Descending {
 public:
  explicit Descending(std::span<const double> scores) : scores_(scores), order_(scores.size()) {
    std::iota(order_.begin(), order_.end(), 0);
  }
  std::int32_t operator[](std::size_t place) {
    while (place >= sorted_) {
      const std::size_t more = std::min(order_.size(), std::max<std::size_t>(64, 2 * sorted_));
      const auto at = [&](std::size_t i) { return order_.begin() + static_cast<std::ptrdiff_t>(i); };
      std::partial_sort(at(sorted_), at(more), order_.end(), [&](std::int32_t a, std::int32_t b) {
        const double x = scores_[static_cast<std::size_t>(a)], y = scores_[static_cast<std::size_t>(b)];
        return x != y ? x > y : a < b;
      });
      sorted_ = more;
    }
    return order_[place];
  }

 private:
  std::span<const double> scores_;
  std::vector<std::int32_t> order_;
  std::size_t sorted_ = 0;
};

}  // namespace

std::int32_t sample(std::span<const float> logits, std::span<const std::int32_t> seen, const GenerateOptions& options,
                    std::uint64_t index) {
  if (options.temperature == 0.0 && options.repetition_penalty == 1.0) return likeliest(logits);
  std::vector<double> scores(logits.begin(), logits.end());
  if (options.repetition_penalty != 1.0) {
    std::vector<std::int32_t> once(seen.begin(), seen.end());
    std::sort(once.begin(), once.end());
    once.erase(std::unique(once.begin(), once.end()), once.end());
    for (const auto token : once) {
      double& s = scores[static_cast<std::size_t>(token)];
      s = s > 0 ? s / options.repetition_penalty : s * options.repetition_penalty;
    }
  }
  if (options.temperature == 0.0)
    return static_cast<std::int32_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());

  Descending order(scores);
  const double top = scores[static_cast<std::size_t>(order[0])];
  const auto weight_of = [&](double score) { return std::exp((score - top) / options.temperature); };
  const auto weight = [&](std::size_t place) { return weight_of(scores[static_cast<std::size_t>(order[place])]); };
  const auto weight_of_first = [&](std::size_t count) {
    double sum = 0;
    if (count == scores.size())
      for (const double score : scores) sum += weight_of(score);
    else
      for (std::size_t i = 0; i < count; ++i) sum += weight(i);
    return sum;
  };
  std::size_t kept = scores.size();
  if (options.top_k > 0) kept = std::min(kept, static_cast<std::size_t>(options.top_k));
  double total = weight_of_first(kept);
  if (options.top_p < 1.0) {
    double reached = 0;
    std::size_t needed = 0;
    while (needed < kept && reached < options.top_p * total) reached += weight(needed++);
    kept = std::max<std::size_t>(needed, 1);
    total = weight_of_first(kept);
  }
  const double draw = static_cast<double>(Philox(options.seed, stream_of("generate")).bits(index) >> 11) * 0x1p-53;
  double left = draw * total;
  for (std::size_t i = 0; i < kept; ++i) {
    left -= weight(i);
    if (left < 0) return order[i];
  }
  return order[kept - 1];
}

std::vector<std::int32_t> generate(models::Qwen3& model, std::span<const std::int32_t> prompt,
                                   std::span<const std::int32_t> stop, const GenerateOptions& options,
                                   const std::function<bool(std::int32_t)>& on_token) {
  const std::vector<std::int32_t> prompts[] = {{prompt.begin(), prompt.end()}};
  return generate_batch(model, prompts, stop, options,
                        [&](std::size_t, std::int32_t token) { return !on_token || on_token(token); })[0];
}

std::vector<std::vector<std::int32_t>> generate_batch(models::Qwen3& model,
                                                      std::span<const std::vector<std::int32_t>> prompts,
                                                      std::span<const std::int32_t> stop,
                                                      const GenerateOptions& options,
                                                      const std::function<bool(std::size_t, std::int32_t)>& on_token) {
  const autograd::NoGrad guard;
  const std::int64_t positions = model.config().max_position_embeddings;
  std::size_t longest = 0;
  for (const auto& prompt : prompts) {
    if (prompt.empty()) fail_user("generate: the prompt has no tokens");
    if (std::ssize(prompt) >= positions)
      fail_user("generate: the prompt has {} tokens, the model takes fewer than {} (max_position_embeddings)",
                prompt.size(), positions);
    longest = std::max(longest, prompt.size());
  }
  std::vector<std::vector<std::int32_t>> seen(prompts.begin(), prompts.end()), fresh(seen), made(prompts.size());
  if (options.max_new_tokens <= 0) return made;
  auto cache = model.make_cache(std::ssize(prompts),
                                std::min(positions, static_cast<std::int64_t>(longest) + options.max_new_tokens),
                                model.head().value.dtype());
  cache.stepping.resize(prompts.size());
  std::iota(cache.stepping.begin(), cache.stepping.end(), 0);
  while (!cache.stepping.empty()) {
    const Tensor logits = next_logits(model, fresh, cache);
    const auto vocabulary = static_cast<std::size_t>(logits.size(1));
    std::vector<std::int32_t> chosen(fresh.size());
    parallel_tasks(std::ssize(chosen), [&](std::int64_t task) {
      const auto i = static_cast<std::size_t>(task), s = cache.stepping[i];
      GenerateOptions own = options;
      own.seed += s;
      chosen[i] = sample(logits.data<float>().subspan(i * vocabulary, vocabulary), seen[s], own, made[s].size());
    });
    std::vector<std::size_t> going_on;
    fresh.clear();
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      const auto s = cache.stepping[i];
      if (std::find(stop.begin(), stop.end(), chosen[i]) != stop.end()) continue;
      seen[s].push_back(chosen[i]);
      made[s].push_back(chosen[i]);
      if (on_token && !on_token(s, chosen[i])) continue;
      if (std::ssize(made[s]) == options.max_new_tokens || std::ssize(seen[s]) > positions) continue;
      going_on.push_back(s);
      fresh.push_back({chosen[i]});
    }
    cache.stepping = going_on;
  }
  return made;
}

}  // namespace dujiang::train
