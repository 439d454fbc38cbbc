#pragma once
// Modules and parameters. A module knows its own local shapes and nothing of ranks: what a layout needs around it is
// added from outside by wrap().

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "framework/autograd/functions.h"

namespace dujiang::nn {

/// How a parameter starts. normal: mean 0, standard deviation std, drawn by the element's global index.
struct Init {
  enum class Kind { normal, ones } kind = Kind::normal;
  float std = 0.02f;
};

/// How the optimizer treats a parameter.
struct Group {
  float lr_scale = 1.0f;
  float weight_decay = 0.0f;
  enum class Rule : std::uint8_t { adamw, muon } rule = Rule::adamw;
  bool operator==(const Group&) const = default;
};

/// How a tensor lies over the ranks of one axis of the mesh: the same on each, cut along an axis of its own, or
/// on each a summand of the whole (gradients only).
struct Layout {
  enum class Kind { replicate, shard, partial } kind = Kind::replicate;
  int axis = 0;  ///< of the tensor; shard only
  bool operator==(const Layout&) const = default;
};
constexpr Layout replicate() {
  return {};
}
constexpr Layout shard(int axis) {
  return {Layout::Kind::shard, axis};
}
constexpr Layout partial() {
  return {Layout::Kind::partial, 0};
}

/// Constructed without memory, and whole; a plan may then cut it. `value` (and its gradient) come from a flat bucket or
/// from whoever loads it.
struct Parameter {
  std::string path;         ///< as in the checkpoint: "model.layers.0.mlp.up_proj.weight"
  Shape global;             ///< of the whole
  Shape shape;              ///< of the part held here; may reach beyond the whole: padding, always zero
  Layout layout;            ///< of the value: replicate or shard
  std::int64_t offset = 0;  ///< where the part begins in the whole, along layout.axis
  Layout gradient;          ///< replicate, shard, or partial: a summand, as backward leaves it
  Init init;
  /// Of the ranks that hold these elements, this one counts them in sums and writes them to files.
  bool primary = true;
  bool trainable = true;
  Group group;
  Tensor value;
};

/// A stretch of elements that lie side by side both in the part and in the whole (flat, row-major positions).
struct ElementRun {
  std::int64_t local, global, count;
};
/// The runs of elements [first, first + count) of the part held here, in order; padding is left out.
std::vector<ElementRun> element_runs(const Parameter& parameter, std::int64_t first, std::int64_t count);

/// Writes the first values of elements [first, first + target.count()) of the part held here into `target`, contiguous
/// and of any floating dtype: a function of the seed, the path and the place in the whole alone; padding gets 0.
void initialise(const Parameter& parameter, std::uint64_t seed, const Tensor& target, std::int64_t first = 0);

/// Keys and values of the tokens seen so far, of several sequences.
struct KeyValueCache {
  std::int64_t capacity = 0;          ///< tokens per sequence
  std::vector<std::int64_t> lengths;  ///< per sequence: tokens seen
  std::vector<std::size_t> stepping;  ///< of each segment of a step: whose tokens these are; set it before the step
  /// Per layer: [sequences * capacity, kv_heads, head_dim], one sequence after another.
  std::vector<Tensor> keys, values;
};

/// What a forward pass needs besides its input.
struct StepContext {
  Tensor positions;                ///< i32 [n]: each token's position in its document
  fn::Offsets segments;            ///< where attention starts anew: offsets over the n tokens
  KeyValueCache* cache = nullptr;  ///< generation: the sequences that the segments continue
  Tensor labels;                   ///< training: i32 [n], below 0 where there is none
  Tensor loss_weight;              ///< training: f32 [n]
  float grad_scale = 1.0f;         ///< training: gradients are those of grad_scale * loss
};

class Module {
 public:
  /// What a wrapper stands around; it may be kept and called again in the backward pass.
  using Next = std::function<Tensor(const Tensor&)>;
  using Wrapper = std::function<Tensor(const Tensor&, const Next&)>;

  explicit Module(std::string path) : path_(std::move(path)) {}
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  const std::string& path() const { return path_; }
  /// The wrappers, the last added outermost, then forward.
  Tensor operator()(const Tensor& x, const StepContext& context);
  void wrap(Wrapper wrapper) { wrappers_.push_back(std::move(wrapper)); }

  /// This module's parameters and those below, in order of construction.
  std::vector<Parameter*> parameters();
  /// This module, then those below, depth first.
  void visit(const std::function<void(Module&)>& visitor);

 protected:
  virtual Tensor forward(const Tensor& x, const StepContext& context) = 0;
  Parameter& add_parameter(std::string_view name, Shape shape, Init init);
  template <class M, class... Args>
  M& add_module(std::string_view name, Args&&... args) {
    auto module = std::make_unique<M>(path_.empty() ? std::string(name) : path_ + "." + std::string(name),
                                      std::forward<Args>(args)...);
    M& reference = *module;
    children_.push_back(std::move(module));
    return reference;
  }

 private:
  Tensor run(const Tensor& x, std::size_t level, const std::shared_ptr<const StepContext>& context);

  std::string path_;
  std::vector<std::unique_ptr<Parameter>> parameters_;
  std::vector<std::unique_ptr<Module>> children_;
  std::vector<Wrapper> wrappers_;
};

}  // namespace dujiang::nn
