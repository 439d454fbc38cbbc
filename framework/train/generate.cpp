#include "framework/train/generate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "framework/base/philox.h"

namespace dujiang::train {
namespace {

// The logits of the last of `tokens`, which follow what the cache holds.
std::vector<float> next_logits(models::Qwen3& model, std::span<const std::int32_t> tokens, nn::KeyValueCache& cache) {
  const auto n = static_cast<std::int64_t>(tokens.size());
  std::vector<std::int32_t> positions(tokens.size());
  std::iota(positions.begin(), positions.end(), static_cast<std::int32_t>(cache.length));
  nn::StepContext context;
  context.positions = Tensor::of<std::int32_t>(positions, {n});
  context.segments =
      std::make_shared<const std::vector<std::int32_t>>(std::vector<std::int32_t>{0, static_cast<std::int32_t>(n)});
  context.cache = &cache;
  const Tensor hidden = model(Tensor::of<std::int32_t>(tokens, {n}), context);
  return model.logits(hidden.narrow(0, n - 1, 1)).floats();
}

}  // namespace

std::int32_t sample(std::span<const float> logits, std::span<const std::int32_t> seen, const GenerateOptions& options,
                    std::uint64_t index) {
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

  std::vector<std::int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  // Likeliest first; equal scores by number, so that the draw does not depend on the sort.
  const auto likelier = [&](std::int32_t a, std::int32_t b) {
    const double x = scores[static_cast<std::size_t>(a)], y = scores[static_cast<std::size_t>(b)];
    return x != y ? x > y : a < b;
  };
  std::size_t kept = order.size();
  if (options.top_k > 0) kept = std::min(kept, static_cast<std::size_t>(options.top_k));
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end(), likelier);
  order.resize(kept);

  std::vector<double> weights(kept);
  const double top = scores[static_cast<std::size_t>(order[0])];
  for (std::size_t i = 0; i < kept; ++i)
    weights[i] = std::exp((scores[static_cast<std::size_t>(order[i])] - top) / options.temperature);
  double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  if (options.top_p < 1.0) {
    double reached = 0;
    std::size_t needed = 0;
    while (needed < kept && reached < options.top_p * total) reached += weights[needed++];
    kept = std::max<std::size_t>(needed, 1);
    total = std::accumulate(weights.begin(), weights.begin() + static_cast<std::ptrdiff_t>(kept), 0.0);
  }
  const double draw = static_cast<double>(Philox(options.seed, stream_of("generate")).bits(index) >> 11) * 0x1p-53;
  double left = draw * total;
  for (std::size_t i = 0; i < kept; ++i) {
    left -= weights[i];
    if (left < 0) return order[i];
  }
  return order[kept - 1];
}

std::vector<std::int32_t> generate(models::Qwen3& model, std::span<const std::int32_t> prompt,
                                   std::span<const std::int32_t> stop, const GenerateOptions& options,
                                   const std::function<bool(std::int32_t)>& on_token) {
  const autograd::NoGrad guard;
  const std::int64_t positions = model.config().max_position_embeddings;
  if (prompt.empty()) fail_user("generate: the prompt has no tokens");
  if (std::ssize(prompt) >= positions)
    fail_user("generate: the prompt has {} tokens, the model takes fewer than {} (max_position_embeddings)",
              prompt.size(), positions);
  const std::int64_t capacity = std::min(positions, std::ssize(prompt) + options.max_new_tokens);
  auto cache = model.make_cache(capacity, model.head().value.dtype());
  std::vector<std::int32_t> seen(prompt.begin(), prompt.end());
  std::vector<std::int32_t> fresh(prompt.begin(), prompt.end());  // what the cache has not seen
  std::vector<std::int32_t> result;
  while (std::ssize(result) < options.max_new_tokens && cache.length + std::ssize(fresh) <= capacity) {
    const auto logits = next_logits(model, fresh, cache);
    const std::int32_t token = sample(logits, seen, options, result.size());
    if (std::find(stop.begin(), stop.end(), token) != stop.end()) break;
    seen.push_back(token);
    result.push_back(token);
    fresh.assign(1, token);
    if (on_token && !on_token(token)) break;
  }
  return result;
}

}  // namespace dujiang::train
