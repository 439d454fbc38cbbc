#pragma once
// The layers that decoder families share. Activations are [n, width], n tokens of a micro-batch.

#include <optional>

#include "framework/nn/module.h"

namespace dujiang::nn {

/// x · weightᵀ; weight [out, in].
class Linear : public Module {
 public:
  Linear(std::string path, std::int64_t in, std::int64_t out, float std);
  Parameter& weight() { return weight_; }
  /// Computes in fixed slices of a cut axis from now on; null: as fast as it goes.
  void slice(std::optional<fn::Slicing> slicing) { slicing_ = std::move(slicing); }

 protected:
  Tensor forward(const Tensor& x, const StepContext&) override {
    return slicing_ ? fn::linear(x, weight_.value, *slicing_) : fn::linear(x, weight_.value);
  }

 private:
  Parameter& weight_;
  std::optional<fn::Slicing> slicing_;
};

/// tokens i32 [n] -> [n, width]; weight [vocabulary, width].
class Embedding : public Module {
 public:
  Embedding(std::string path, std::int64_t vocabulary, std::int64_t width, float std);
  Parameter& weight() { return weight_; }

 protected:
  Tensor forward(const Tensor& tokens, const StepContext&) override { return fn::embedding(tokens, weight_.value); }

 private:
  Parameter& weight_;
};

class RmsNorm : public Module {
 public:
  RmsNorm(std::string path, std::int64_t width, float eps);
  /// x + residual and its norm, in one pass.
  fn::NormedSum add(const Tensor& x, const Tensor& residual) {
    return fn::add_rms_norm(x, residual, weight_.value, eps_);
  }
  Parameter& weight() { return weight_; }
  float eps() const { return eps_; }

 protected:
  Tensor forward(const Tensor& x, const StepContext&) override { return fn::rms_norm(x, weight_.value, eps_); }

 private:
  Parameter& weight_;
  float eps_;
};

/// down(silu(gate(x)) * up(x)).
class SwigluFfn : public Module {
 public:
  SwigluFfn(std::string path, std::int64_t width, std::int64_t inner, float std);

 protected:
  Tensor forward(const Tensor& x, const StepContext& context) override;

 private:
  Linear &gate_, &up_, &down_;
};

/// Grouped-query attention with rotary embedding and per-head norms of queries and keys. The number of heads follows
/// from the rows of the weights, so that a slice of them works unchanged.
class Attention : public Module {
 public:
  struct Options {
    std::int64_t width, heads, kv_heads, head_dim;
    float eps, std;
    int layer;          ///< which entry of a KeyValueCache is this layer's
    Tensor rope_table;  ///< see rope_table()
  };
  Attention(std::string path, const Options& options);

  /// Fixed slices of heads.
  struct HeadSlices {
    fn::Slices queries;    ///< of query heads, for q_norm's gradient: across all ranks
    fn::Slices keys;       ///< of key heads, for k_norm's gradient: across all ranks, each head counted once
    fn::Slices attention;  ///< of query heads: across the ranks that hold copies of the key heads here
  };
  Linear& query() { return query_; }
  Linear& key() { return key_; }
  /// As Linear::slice; the projections are sliced by themselves.
  void slice(std::optional<HeadSlices> slices) { slices_ = std::move(slices); }

 protected:
  Tensor forward(const Tensor& x, const StepContext& context) override;

 private:
  float scale() const;
  Tensor attend_cached(const Tensor& q, const Tensor& k, const Tensor& v, const StepContext& context) const;

  Options options_;
  Linear &query_, &key_, &value_, &output_;
  RmsNorm &query_norm_, &key_norm_;
  std::optional<HeadSlices> slices_;
};

/// hidden [n, width] -> f32 [1], the sum over the context's labels of their weighted cross-entropy under logits
/// hidden · headᵀ. Has no parameters: the output matrix is another module's.
class CausalLoss : public Module {
 public:
  CausalLoss(std::string path, Parameter& head, std::int64_t vocabulary);
  Parameter& head() { return head_; }
  /// `head` holds these rows of the vocabulary from now on; null: all of them.
  void shard(std::optional<fn::VocabularyShard> shard) { shard_ = std::move(shard); }

 protected:
  Tensor forward(const Tensor& hidden, const StepContext& context) override;

 private:
  Parameter& head_;
  std::int64_t vocabulary_;
  std::optional<fn::VocabularyShard> shard_;
};

/// f32 [positions, head_dim]: cos in the first half, sin in the second, of position * theta^(-2i / head_dim).
Tensor rope_table(std::int64_t positions, std::int64_t head_dim, double theta);

}  // namespace dujiang::nn
