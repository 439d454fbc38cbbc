#pragma once
// The shape of a model, in the terms of Hugging Face's config.json (Qwen3Config of transformers).

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "framework/base/dtype.h"

namespace dujiang::models {

/// Defaults are Qwen3Config's where leaving a field out is harmless; sizes have none (0: not given).
struct ModelConfig {
  std::string model_type = "qwen3";
  std::int64_t hidden_size = 0;
  std::int64_t num_hidden_layers = 0;
  std::int64_t num_attention_heads = 0;
  std::int64_t num_key_value_heads = 0;
  std::int64_t head_dim = 0;  ///< heads * head_dim need not be hidden_size
  std::int64_t intermediate_size = 0;
  std::int64_t vocab_size = 0;
  std::int64_t max_position_embeddings = 0;
  double rope_theta = 10000.0;
  double rms_norm_eps = 1e-6;
  bool tie_word_embeddings = false;
  double initializer_range = 0.02;  ///< standard deviation of fresh weights
  bool attention_bias = false;      ///< only false is supported
  std::optional<std::int64_t> bos_token_id, pad_token_id;
  std::vector<std::int64_t> eos_token_ids;  ///< any of them ends a text; config.json's eos_token_id

  bool operator==(const ModelConfig&) const = default;
};

/// Every fault of the config, each naming its field, found and expected; empty when it is sound.
std::vector<std::string> validate(const ModelConfig& config);

/// The number of weights; tied embeddings count once.
std::int64_t parameter_count(const ModelConfig& config);

/// FLOPs of training on one token, forward and backward: 6 * parameters + 6 * layers * heads * head_dim * sequence (the
/// causal half of the scores).
double training_flops_per_token(const ModelConfig& config, std::int64_t sequence_length);

/// Reads a config.json in the spellings of transformers 4 (rope_theta) and 5 (rope_parameters); fields that are left
/// out have Qwen3Config's defaults. A generation_config.json beside it decides eos_token_ids. UserError naming the file
/// and every field that is malformed, unsound or not supported (other model types, scaled RoPE, sliding windows, ...).
ModelConfig from_hf_json(const std::filesystem::path& path);

/// The text of a config.json that transformers 4 and 5 load as Qwen3ForCausalLM; `dtype` is the weights'.
std::string to_hf_json(const ModelConfig& config, Dtype dtype);
/// The text of the generation_config.json that belongs to it.
std::string generation_config_json(const ModelConfig& config);

/// The fields that make two configs different models, one "field: expected A, found B" each. What only matters to
/// fresh weights or to generation (initializer_range, token ids) is not compared.
std::vector<std::string> model_differences(const ModelConfig& expected, const ModelConfig& found);

}  // namespace dujiang::models
