#pragma once
// A plan says how a model family lies over the ranks of the tensor axis: which parameters are cut and how, and around
// which modules collectives stand. It knows paths, not classes; a model knows nothing of it.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "framework/nn/module.h"

namespace dujiang::parallel {

/// For the parameters whose path matches; the first rule that matches decides, others stay whole.
struct ParameterRule {
  enum class Gradient {
    whole,               ///< backward leaves the gradient of what this rank holds
    partial,             ///< a summand: every rank used the parameter for other heads, say
    partial_by_sequence  ///< a summand where sequence parallelism gives every rank other rows
  };
  std::string match;         ///< fnmatch(3) pattern of the whole path, in which * crosses dots
  nn::Layout layout;         ///< replicate or shard
  std::string counted = {};  ///< what the units along the cut axis are, for messages: "model.num_attention_heads"
  Gradient gradient = Gradient::whole;
  std::int64_t unit = 1;  ///< so many lines along the cut axis stay together (those of a head)
  bool pad = false;       ///< the axis may be padded until it divides (the vocabulary)
  bool repeat = false;    ///< where there are fewer units than ranks, several ranks hold the same (key and value heads)
};

/// What stands around a module.
struct ModuleRule {
  enum class Role {
    region,     ///< its input goes to all ranks as it is, its outputs are summed: attention, feed-forward
    embedding,  ///< tokens -> rows of a table that is cut by rows
    loss        ///< its input goes to all ranks; it adds up over the vocabulary by itself (nn::CausalLoss)
  };
  std::string match;
  Role role;
};

struct Plan {
  std::vector<ParameterRule> parameters;
  std::vector<ModuleRule> modules;
};

bool path_matches(const std::string& pattern, const std::string& path);

/// The plan of `model_type` for heads of `head_dim`; UserError naming the known ones when there is none.
Plan plan_of(std::string_view model_type, std::int64_t head_dim);

}  // namespace dujiang::parallel
