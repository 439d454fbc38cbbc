#include "framework/train/data_trace.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "data/loader/loader.h"
#include "framework/base/check.h"
#include "framework/parallel/mesh.h"
#include "framework/train/train_step.h"
#include "framework/train/training_data.h"

namespace dujiang::train {

namespace fs = std::filesystem;

namespace {

std::optional<data::LoaderState> saved_state(const fs::path& path) {
  std::ifstream in(path);
  if (!in) return {};
  try {
    return nlohmann::json::parse(in).get<data::LoaderState>();
  } catch (const nlohmann::json::exception& e) {
    fail_user("{}: {}; the file is damaged or of another version", path.string(), e.what());
  }
}

std::int64_t steps_done(const fs::path& metrics) {
  std::int64_t done = 0;
  std::ifstream in(metrics);
  for (std::string line; std::getline(in, line);) {
    const auto entry = nlohmann::json::parse(line, nullptr, false);  // the last may be half written
    if (entry.is_object() && entry.contains("loss")) done = entry.value("step", done);
  }
  return done;
}

}  // namespace

DataTrace::DataTrace(const fs::path& run_or_config) {
  const bool run = fs::is_directory(run_or_config);
  config_ = load_config(run ? run_or_config / "config.yaml" : run_or_config);
  const auto components = open_components(config_.data);
  data::DataLoader loader(components, loader_config(config_), 0);
  auto state = loader.state();
  if (const auto saved = run ? saved_state(run_or_config / "loader.json") : std::nullopt) {
    state = *saved;
    if (state.components.size() != components.size())
      fail_user("{}: the loader had {} components, config.yaml has {}", run_or_config.string(), state.components.size(),
                components.size());
  }
  std::vector<std::vector<data::Generation>> generations;
  for (std::size_t c = 0; c < components.size(); ++c) {
    data::check_unchanged(components[c], state.components[c].generations);
    generations.push_back(state.components[c].generations);
  }
  if (run) steps_ = steps_done(run_or_config / "metrics.jsonl");
  if (steps_ == 0)
    steps_ = config_.train.steps > 0 ? config_.train.steps : loader.steps_in(config_.train.epochs.value_or(1.0));
  sequences_ =
      std::make_unique<data::Sequences>(components, state.blend, std::move(generations), config_.data.sequence_length,
                                        config_.data.packing, config_.train.seed);
}

std::vector<DataTrace::Sequence> DataTrace::step(std::int64_t step, int rank, int ranks) {
  if (step < 1) fail_user("step {}: steps count from 1", step);
  if (ranks < 1 || rank < 0 || rank >= ranks) fail_user("rank {} of {}: ranks count from 0", rank, ranks);
  const std::int64_t batch = config_.train.global_batch, tensor = config_.parallel.tensor;
  const auto dp = parallel::axis_sizes(ranks, ranks == 1 ? 1 : tensor)[static_cast<std::size_t>(parallel::Axis::dp)];
  const auto share = batch_share(batch, dp, rank / (ranks / dp), config_.train.strict && config_.parallel.zero >= 2);
  std::vector<Sequence> found;
  for (std::int64_t i = 0; i < share.count; ++i) {
    const std::int64_t k = (step - 1) * batch + share.first + i * share.stride;
    const auto pick = sequences_->blend().at(k);
    const auto& component = sequences_->components()[pick.component];
    auto& sampler = sequences_->samplers()[pick.component];
    auto& out =
        found.emplace_back(Sequence{k, component.name(), static_cast<std::int64_t>(sampler.epochs(pick.index)), {}});
    for (const auto& span : sampler.spans(pick.index)) {
      const auto place = component.dataset->locate(span.document);
      const auto& shard = *place.shard;
      const auto d = static_cast<std::size_t>(place.document);
      const auto source = shard.doc_sources()[d], file = shard.doc_files()[d];
      if (source >= shard.info().sources.size() || file >= shard.files().size())
        fail_user("{}: document {} names source {} and file {}, which it does not list: the file is damaged",
                  shard.path().string(), d, source, file);
      out.passages.push_back({span.document, span.first, span.count, span.at, shard.info().sources[source].name,
                              shard.info().sources[source].licence, std::string(shard.files()[file]),
                              shard.doc_raw_offsets()[d], shard.doc_raw_bytes()[d]});
    }
  }
  return found;
}

std::vector<DataTrace::Sighting> DataTrace::file(const std::string& path, std::int64_t steps) {
  const std::int64_t batch = config_.train.global_batch;
  std::vector<Sighting> found;
  bool known = false;
  for (std::size_t c = 0; c < sequences_->components().size(); ++c) {
    const auto& component = sequences_->components()[c];
    std::vector<std::int64_t> documents;
    std::int64_t first = 0;  // of the shard
    for (const auto& shard : component.dataset->shards()) {
      const auto row = std::ranges::find(shard->files(), path) - shard->files().begin();
      if (row < std::ssize(shard->files()))
        for (std::int64_t d = 0; d < shard->documents(); ++d)
          if (shard->doc_files()[static_cast<std::size_t>(d)] == static_cast<std::uint32_t>(row))
            documents.push_back(first + d);
      first += shard->documents();
    }
    known |= !documents.empty();
    const auto& blend = sequences_->blend();
    for (const auto& s : sequences_->samplers()[c].sightings(documents, 0, blend.count(c, steps * batch))) {
      const std::int64_t k = blend.sequence(c, s.sequence);
      found.push_back({k / batch + 1, k, s.document, component.name()});
    }
  }
  if (!known) {
    const auto files = sequences_->components()[0].dataset->shards()[0]->files();
    fail_user("{}: no document of the training data is of this file; one that has some is '{}'", path,
              files.empty() ? "" : files.front());
  }
  std::ranges::sort(found, {}, [](const auto& s) { return std::pair(s.sequence, s.document); });
  return found;
}

}  // namespace dujiang::train
