#include "framework/train/training_data.h"

#include <map>
#include <string>

namespace dujiang::train {

std::vector<data::BlendPhase> blend_phases(const DataSection& data) {
  std::vector<data::BlendPhase> phases;
  if (data.blend.empty()) return phases;
  for (std::size_t p = 0; p <= data.blend_at.size(); ++p) {
    const std::int64_t tokens = p == 0 ? 0 : data.blend_at[p - 1];
    auto& phase = phases.emplace_back();
    phase.from = tokens / data.sequence_length + (tokens % data.sequence_length > 0);
    for (const auto& component : data.blend) phase.weights.push_back(component.weights.at(p));
  }
  return phases;
}

std::vector<data::Component> open_components(const DataSection& data) {
  std::map<std::string, std::shared_ptr<const data::Dataset>> open;
  const auto dataset = [&](const std::string& path) {
    auto& found = open[path];
    if (!found) found = std::make_shared<data::Dataset>(path, "train", read_options(data));
    return found;
  };
  if (data.blend.empty()) return {{dataset(data.path), ""}};
  std::vector<data::Component> components;
  for (const auto& part : data.blend)
    components.push_back({dataset(part.path.empty() ? data.path : part.path), part.source});
  return components;
}

data::ReadOptions read_options(const DataSection& data) {
  return {.verify_blocks = data.verify == VerifyBlocks::first_touch};
}

data::LoaderConfig loader_config(const Config& config) {
  return {.sequence_length = config.data.sequence_length,
          .global_batch = config.train.global_batch,
          .packing = config.data.packing,
          .seed = config.train.seed,
          .count = config.train.global_batch,
          .blend = blend_phases(config.data),
          .growth = config.data.growth};
}

}  // namespace dujiang::train
