#pragma once
// Qwen3 dense decoders (Qwen Team, "Qwen3 Technical Report", 2025): pre-norm blocks, grouped-query attention with
// per-head norms of queries and keys, rotary embedding, SwiGLU. Parameter paths are Hugging Face's.

#include "framework/models/model_config.h"
#include "framework/nn/layers.h"

namespace dujiang::models {

class Qwen3Block : public nn::Module {
 public:
  Qwen3Block(std::string path, const ModelConfig& config, int layer, const Tensor& rope_table);

 protected:
  Tensor forward(const Tensor& x, const nn::StepContext& context) override;

 private:
  nn::RmsNorm& input_norm_;
  nn::Attention& attention_;
  nn::RmsNorm& ffn_norm_;
  nn::SwigluFfn& ffn_;
};

class Qwen3 : public nn::Module {
 public:
  /// Throws UserError listing the faults of an invalid config.
  explicit Qwen3(const ModelConfig& config);

  const ModelConfig& config() const { return config_; }
  const std::vector<Qwen3Block*>& blocks() const { return blocks_; }
  /// The output matrix [vocab_size, hidden_size]: the embedding itself where they are tied.
  nn::Parameter& head();

  /// hidden [n, hidden_size] (what the module returns for tokens i32 [n]) -> logits [n, vocab_size].
  Tensor logits(const Tensor& hidden);
  /// sum_i loss_weight[i] * cross_entropy of labels[i] -> f32 [1]; gradients are those of grad_scale * that. By way of
  /// the module "loss".
  Tensor loss(const Tensor& tokens, const Tensor& labels, const Tensor& loss_weight, float grad_scale,
              const nn::StepContext& context);

  /// An empty cache for sequences of at most `capacity` tokens.
  nn::KeyValueCache make_cache(std::int64_t sequences, std::int64_t capacity, Dtype dtype) const;

 protected:
  Tensor forward(const Tensor& tokens, const nn::StepContext& context) override;

 private:
  ModelConfig config_;
  nn::Embedding* embedding_;
  std::vector<Qwen3Block*> blocks_;
  nn::RmsNorm* norm_;
  nn::Linear* head_ = nullptr;  ///< null: tied
  nn::CausalLoss* loss_;
};

}  // namespace dujiang::models
