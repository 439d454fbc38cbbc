#include "data/loader/loader_state.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "framework/base/check.h"

namespace dujiang::data {

using nlohmann::json;

void to_json(json& out, const LoaderState& state) {
  json blend = json::array(), components = json::array();
  for (const auto& phase : state.blend) blend.push_back({{"from", phase.from}, {"weights", phase.weights}});
  for (const auto& component : state.components) {
    json generations = json::array();
    for (const auto& g : component.generations)
      generations.push_back(
          {{"sequence", g.sequence}, {"epoch", g.epoch}, {"shards", g.shards}, {"fingerprint", g.fingerprint}});
    components.push_back({{"source", component.source}, {"generations", std::move(generations)}});
  }
  out = {{"next_sequence", state.next_sequence},
         {"sequence_length", state.sequence_length},
         {"global_batch", state.global_batch},
         {"packing", state.packing},
         {"seed", state.seed},
         {"blend", std::move(blend)},
         {"components", std::move(components)}};
}

void from_json(const json& in, LoaderState& state) {
  if (in.contains("dataset") && !in.contains("components"))
    fail_user("the state of the data is of an older version, whose shards this program does not read: start a new run");
  in.at("next_sequence").get_to(state.next_sequence);
  in.at("sequence_length").get_to(state.sequence_length);
  in.at("global_batch").get_to(state.global_batch);
  in.at("packing").get_to(state.packing);
  in.at("seed").get_to(state.seed);
  state.blend.clear();
  for (const auto& phase : in.at("blend")) state.blend.push_back({phase.at("from"), phase.at("weights")});
  state.components.clear();
  for (const auto& component : in.at("components")) {
    auto& out = state.components.emplace_back();
    component.at("source").get_to(out.source);
    for (const auto& g : component.at("generations"))
      out.generations.push_back({g.at("sequence"), g.at("epoch"), g.at("shards"), g.at("fingerprint")});
  }
}

void check_unchanged(const Component& component, const std::vector<Generation>& generations) {
  const Dataset& dataset = *component.dataset;
  const std::int64_t shards = std::ssize(dataset.shards());
  if (generations.empty()) fail_user("the saved state of {} is damaged", component.name());
  for (const auto& g : generations)
    if (g.shards < 1 || g.shards > shards || dataset.fingerprint(g.shards) != g.fingerprint)
      fail_user("{} is not what it was: dataset was {} in {} shards, now is {} in {}", component.name(), g.fingerprint,
                g.shards, dataset.fingerprint(), shards);
}

std::vector<Generation> continued(const Component& component, std::vector<Generation> saved, std::int64_t seen,
                                  Growth growth, std::int64_t sequence_length) {
  const Dataset& dataset = *component.dataset;
  const std::int64_t shards = std::ssize(dataset.shards());
  check_unchanged(component, saved);
  if (shards == saved.back().shards) return saved;
  if (growth == Growth::refuse)
    fail_user(
        "cannot resume, {} has grown from {} shards to {}: with data.growth: next_epoch they come in from the "
        "next epoch on",
        component.name(), saved.back().shards, shards);
  const Sampler sampler(component.dataset, component.source, saved, {sequence_length, Packing::documents, {}, 0});
  auto& last = saved.back();
  Generation next{last.sequence, last.epoch, shards, dataset.fingerprint()};
  if (const std::int64_t begun = seen - last.sequence; begun > 0) {
    const std::int64_t per_epoch = sampler.sequences_per_epoch(last.sequence);
    const std::int64_t epochs = (begun + per_epoch - 1) / per_epoch;
    next.sequence += epochs * per_epoch;
    next.epoch += epochs;
    saved.push_back(std::move(next));
  } else {
    last = std::move(next);  // whose epoch nobody saw
  }
  return saved;
}

}  // namespace dujiang::data
