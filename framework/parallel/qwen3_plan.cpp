#include "framework/parallel/qwen3_plan.h"

namespace dujiang::parallel {

Plan qwen3_plan(std::int64_t head_dim) {
  using nn::replicate;
  using nn::shard;
  using Gradient = ParameterRule::Gradient;
  using Role = ModuleRule::Role;
  const std::string heads = "model.num_attention_heads", kv_heads = "model.num_key_value_heads",
                    ffn = "model.intermediate_size", vocabulary = "model.vocab_size";
  return {
      .parameters =
          {{.match = "model.embed_tokens.weight", .layout = shard(0), .counted = vocabulary, .pad = true},
           {.match = "lm_head.weight", .layout = shard(0), .counted = vocabulary, .pad = true},
           {.match = "*.q_proj.weight", .layout = shard(0), .counted = heads, .unit = head_dim},
           {.match = "*.[kv]_proj.weight", .layout = shard(0), .counted = kv_heads, .unit = head_dim, .repeat = true},
           {.match = "*.o_proj.weight", .layout = shard(1), .counted = heads, .unit = head_dim},
           {.match = "*.[qk]_norm.weight", .layout = replicate(), .gradient = Gradient::partial},
           {.match = "*.gate_proj.weight", .layout = shard(0), .counted = ffn},
           {.match = "*.up_proj.weight", .layout = shard(0), .counted = ffn},
           {.match = "*.down_proj.weight", .layout = shard(1), .counted = ffn},
           {.match = "*norm.weight", .layout = replicate(), .gradient = Gradient::partial_by_sequence}},
      .modules = {{"model.embed_tokens", Role::embedding},
                  {"model.layers.*.self_attn", Role::region},
                  {"model.layers.*.mlp", Role::region},
                  {"loss", Role::loss}}};
}

}  // namespace dujiang::parallel
