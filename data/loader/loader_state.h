#pragma once
// Where a loader stands, and what its order depends on: enough to go on, or to say later what a step saw.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "data/loader/blend.h"
#include "data/loader/sampler.h"
#include "data/loader/sequences.h"

namespace dujiang::data {

/// What a resume does when a dataset has shards that it had not. next_epoch: they come in from the next epoch on.
enum class Growth { refuse, next_epoch };

struct ComponentState {
  std::string source;
  std::vector<Generation> generations;
  bool operator==(const ComponentState&) const = default;
};

/// The same on all ranks.
struct LoaderState {
  std::int64_t next_sequence = 0;  ///< of the first sequence of the next step
  std::int64_t sequence_length = 0;
  std::int64_t global_batch = 0;
  std::string packing;
  std::uint64_t seed = 0;
  std::vector<BlendPhase> blend;
  std::vector<ComponentState> components;
  bool operator==(const LoaderState&) const = default;
};
void to_json(nlohmann::json& json, const LoaderState& state);
/// Throws nlohmann::json::exception when a field is missing or of another type, UserError for an older version's state.
void from_json(const nlohmann::json& json, LoaderState& state);

/// UserError unless the component's dataset begins with what these generations were.
void check_unchanged(const Component& component, const std::vector<Generation>& generations);

/// The saved generations of a component, and one more when its dataset has grown since and `growth` allows it. `seen`:
/// sequences that it gave. UserError when the dataset is not what it was, or has grown against the rule.
std::vector<Generation> continued(const Component& component, std::vector<Generation> saved, std::int64_t seen,
                                  Growth growth, std::int64_t sequence_length);

}  // namespace dujiang::data
