#include "framework/nn/layers.h"

#include <cmath>

#include "framework/base/threads.h"
#include "ops/attention.h"

namespace dujiang::nn {

Linear::Linear(std::string path, std::int64_t in, std::int64_t out, float std)
    : Module(std::move(path)), weight_(add_parameter("weight", {out, in}, {Init::Kind::normal, std})) {}

Embedding::Embedding(std::string path, std::int64_t vocabulary, std::int64_t width, float std)
    : Module(std::move(path)), weight_(add_parameter("weight", {vocabulary, width}, {Init::Kind::normal, std})) {}

RmsNorm::RmsNorm(std::string path, std::int64_t width, float eps)
    : Module(std::move(path)), weight_(add_parameter("weight", {width}, {Init::Kind::ones})), eps_(eps) {}

SwigluFfn::SwigluFfn(std::string path, std::int64_t width, std::int64_t inner, float std)
    : Module(std::move(path)),
      gate_(add_module<Linear>("gate_proj", width, inner, std)),
      up_(add_module<Linear>("up_proj", width, inner, std)),
      down_(add_module<Linear>("down_proj", inner, width, std)) {}

Tensor SwigluFfn::forward(const Tensor& x, const StepContext& context) {
  return down_(fn::swiglu(gate_(x, context), up_(x, context)), context);
}

Attention::Attention(std::string path, const Options& options)
    : Module(std::move(path)),
      options_(options),
      query_(add_module<Linear>("q_proj", options.width, options.heads * options.head_dim, options.std)),
      key_(add_module<Linear>("k_proj", options.width, options.kv_heads * options.head_dim, options.std)),
      value_(add_module<Linear>("v_proj", options.width, options.kv_heads * options.head_dim, options.std)),
      output_(add_module<Linear>("o_proj", options.heads * options.head_dim, options.width, options.std)),
      query_norm_(add_module<RmsNorm>("q_norm", options.head_dim, options.eps)),
      key_norm_(add_module<RmsNorm>("k_norm", options.head_dim, options.eps)) {}

Tensor Attention::forward(const Tensor& x, const StepContext& context) {
  const std::int64_t n = x.size(0), d = options_.head_dim;
  const auto by_head = [&](const Tensor& t) { return fn::view(t, {n, t.size(1) / d, d}); };
  const auto rotated = [&](const Tensor& t, RmsNorm& norm, const fn::Slices* slices) {
    const Tensor &weight = norm.weight().value, &table = options_.rope_table;
    return slices != nullptr ? fn::norm_rope(t, weight, norm.eps(), table, context.positions, *slices)
                             : fn::norm_rope(t, weight, norm.eps(), table, context.positions);
  };
  const Tensor q = rotated(by_head(query_(x, context)), query_norm_, slices_ ? &slices_->queries : nullptr);
  const Tensor k = rotated(by_head(key_(x, context)), key_norm_, slices_ ? &slices_->keys : nullptr);
  const Tensor v = by_head(value_(x, context));
  const auto& segments = context.segments;
  const Tensor o = context.cache != nullptr ? attend_cached(q, k, v, context)
                   : slices_                ? fn::attention(q, k, v, segments, segments, scale(), slices_->attention)
                                            : fn::attention(q, k, v, segments, segments, scale());
  return output_(fn::view(o, {n, o.size(1) * d}), context);
}

float Attention::scale() const {
  return 1.0f / std::sqrt(static_cast<float>(options_.head_dim));
}

// No gradients go through a cache.
Tensor Attention::attend_cached(const Tensor& q, const Tensor& k, const Tensor& v, const StepContext& context) const {
  const auto& cache = *context.cache;
  const auto& offsets = *context.segments;
  const auto layer = static_cast<std::size_t>(options_.layer);
  DUJIANG_CHECK(cache.stepping.size() + 1 == offsets.size(), "key cache: {} sequences for {} segments",
                cache.stepping.size(), offsets.size() - 1);
  std::vector<std::int32_t> begins, ends;
  for (std::size_t s = 0; s < cache.stepping.size(); ++s) {
    const std::int64_t begin = static_cast<std::int64_t>(cache.stepping[s]) * cache.capacity;
    const std::int64_t length = cache.lengths[cache.stepping[s]], more = offsets[s + 1] - offsets[s];
    DUJIANG_CHECK(length + more <= cache.capacity, "key cache: {} tokens and {} more exceed its capacity of {}", length,
                  more, cache.capacity);
    cache.keys[layer].narrow(0, begin + length, more).copy_from(k.narrow(0, offsets[s], more));
    cache.values[layer].narrow(0, begin + length, more).copy_from(v.narrow(0, offsets[s], more));
    begins.push_back(static_cast<std::int32_t>(begin));
    ends.push_back(static_cast<std::int32_t>(begin + length + more));
  }
  Tensor o = Tensor::empty_like(q);
  ops::attention(default_stream(q.device()), q, cache.keys[layer], cache.values[layer], {offsets, begins, ends},
                 scale(), o, View{});
  return o;
}

CausalLoss::CausalLoss(std::string path, Parameter& head, std::int64_t vocabulary)
    : Module(std::move(path)), head_(head), vocabulary_(vocabulary) {}

Tensor CausalLoss::forward(const Tensor& hidden, const StepContext& context) {
  return fn::linear_cross_entropy(hidden, head_.value, context.labels, context.loss_weight,
                                  {.valid = vocabulary_, .grad_scale = context.grad_scale, .shard = shard_});
}

Tensor rope_table(std::int64_t positions, std::int64_t head_dim, double theta) {
  Tensor table = Tensor::empty({positions, head_dim}, Dtype::f32);
  const auto out = table.data<float>();
  const std::int64_t half = head_dim / 2;
  parallel_ranges(half, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const double frequency = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
      for (std::int64_t p = 0; p < positions; ++p) {
        const double angle = static_cast<double>(p) * frequency;
        const auto row = static_cast<std::size_t>(p * head_dim + i);
        out[row] = static_cast<float>(std::cos(angle));
        out[row + static_cast<std::size_t>(half)] = static_cast<float>(std::sin(angle));
      }
    }
  });
  return table;
}

}  // namespace dujiang::nn
