#include "framework/models/qwen3.h"

namespace dujiang::models {
namespace {

nn::Attention::Options attention_options(const ModelConfig& c, int layer, const Tensor& rope_table) {
  return {.width = c.hidden_size,
          .heads = c.num_attention_heads,
          .kv_heads = c.num_key_value_heads,
          .head_dim = c.head_dim,
          .eps = static_cast<float>(c.rms_norm_eps),
          .std = static_cast<float>(c.initializer_range),
          .layer = layer,
          .rope_table = rope_table};
}

}  // namespace

Qwen3Block::Qwen3Block(std::string path, const ModelConfig& c, int layer, const Tensor& rope_table)
    : Module(std::move(path)),
      input_norm_(add_module<nn::RmsNorm>("input_layernorm", c.hidden_size, static_cast<float>(c.rms_norm_eps))),
      attention_(add_module<nn::Attention>("self_attn", attention_options(c, layer, rope_table))),
      ffn_norm_(add_module<nn::RmsNorm>("post_attention_layernorm", c.hidden_size, static_cast<float>(c.rms_norm_eps))),
      ffn_(add_module<nn::SwigluFfn>("mlp", c.hidden_size, c.intermediate_size,
                                     static_cast<float>(c.initializer_range))) {}

Tensor Qwen3Block::forward(const Tensor& x, const nn::StepContext& context) {
  const auto [sum, normed] = ffn_norm_.add(attention_(input_norm_(x, context), context), x);
  return fn::add(sum, ffn_(normed, context));
}

Qwen3::Qwen3(const ModelConfig& config) : Module(""), config_(config) {
  if (const auto faults = validate(config); !faults.empty()) fail_user("model: {}", fmt::join(faults, "; "));
  const auto std = static_cast<float>(config.initializer_range);
  const Tensor table = nn::rope_table(config.max_position_embeddings, config.head_dim, config.rope_theta);
  embedding_ = &add_module<nn::Embedding>("model.embed_tokens", config.vocab_size, config.hidden_size, std);
  for (int i = 0; i < config.num_hidden_layers; ++i)
    blocks_.push_back(&add_module<Qwen3Block>(fmt::format("model.layers.{}", i), config, i, table));
  norm_ = &add_module<nn::RmsNorm>("model.norm", config.hidden_size, static_cast<float>(config.rms_norm_eps));
  if (!config.tie_word_embeddings)
    head_ = &add_module<nn::Linear>("lm_head", config.hidden_size, config.vocab_size, std);
  loss_ = &add_module<nn::CausalLoss>("loss", head(), config.vocab_size);
}

nn::Parameter& Qwen3::head() {
  return head_ != nullptr ? head_->weight() : embedding_->weight();
}

Tensor Qwen3::forward(const Tensor& tokens, const nn::StepContext& context) {
  Tensor x = (*embedding_)(tokens, context);
  for (auto* block : blocks_) x = (*block)(x, context);
  if (auto* cache = context.cache)
    for (std::size_t s = 0; s < cache->stepping.size(); ++s)
      cache->lengths[cache->stepping[s]] += (*context.segments)[s + 1] - (*context.segments)[s];
  return (*norm_)(x, context);
}

Tensor Qwen3::logits(const Tensor& hidden) {
  return fn::linear(hidden, head().value);
}

Tensor Qwen3::loss(const Tensor& tokens, const Tensor& labels, const Tensor& loss_weight, float grad_scale,
                   const nn::StepContext& context) {
  nn::StepContext training = context;
  training.labels = labels;
  training.loss_weight = loss_weight;
  training.grad_scale = grad_scale;
  return (*loss_)((*this)(tokens, training), training);
}

nn::KeyValueCache Qwen3::make_cache(std::int64_t sequences, std::int64_t capacity, Dtype dtype) const {
  nn::KeyValueCache cache;
  cache.capacity = capacity;
  cache.lengths.assign(static_cast<std::size_t>(sequences), 0);
  // What attention reads together lies together: the tokens of one head.
  const Shape shape{config_.num_key_value_heads, sequences * capacity, config_.head_dim};
  for (std::size_t i = 0; i < blocks_.size(); ++i)
    for (auto* tensors : {&cache.keys, &cache.values}) tensors->push_back(Tensor::empty(shape, dtype).transpose(0, 1));
  return cache;
}

}  // namespace dujiang::models
