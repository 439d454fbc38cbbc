#pragma once
// Text from a model, token by token with a key-value cache.

#include <functional>
#include <span>

#include "framework/models/qwen3.h"

namespace dujiang::train {

struct GenerateOptions {
  std::int64_t max_new_tokens = 128;
  double temperature = 1.0;  ///< 0: always the likeliest token
  std::int64_t top_k = 0;    ///< only the k likeliest; 0: all
  double top_p = 1.0;        ///< only the likeliest that reach this share together (Holtzman et al. 2020)
  double repetition_penalty =
      1.0;                 ///< divides positive, multiplies negative logits of seen tokens (Keskar et al. 2019)
  std::uint64_t seed = 1;  ///< the i-th new token draws the i-th number of this stream
};

/// The next token: `logits` of the last position, `seen` all tokens so far, `index` the number of the draw.
std::int32_t sample(std::span<const float> logits, std::span<const std::int32_t> seen, const GenerateOptions& options,
                    std::uint64_t index);

/// Continues `prompt` (at least one token) and calls `on_token` for each new one; ends after max_new_tokens, at one of
/// `stop`, when the model's positions are used up, or when on_token returns false. Returns the new tokens; the stop
/// token is not among them.
std::vector<std::int32_t> generate(models::Qwen3& model, std::span<const std::int32_t> prompt,
                                   std::span<const std::int32_t> stop, const GenerateOptions& options,
                                   const std::function<bool(std::int32_t)>& on_token = {});

/// Continues all `prompts` at once, a token of each per step, which reads the weights once for all. Prompt i becomes
/// what it becomes alone with the seed options.seed + i, but for the rounding of products of other shapes; on_token
/// hears i and ends that sequence alone.
std::vector<std::vector<std::int32_t>> generate_batch(
    models::Qwen3& model, std::span<const std::vector<std::int32_t>> prompts, std::span<const std::int32_t> stop,
    const GenerateOptions& options, const std::function<bool(std::size_t, std::int32_t)>& on_token = {});

}  // namespace dujiang::train
