#include "launch/corpus.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "comm/bootstrap.h"
#include "data/corpus/filter/document_filter.h"
#include "data/corpus/filter/line_filter.h"
#include "data/corpus/filter/privacy.h"
#include "data/corpus/filter/quality.h"
#include "data/corpus/filter/repetition.h"
#include "data/corpus/filter/words.h"
#include "data/text/sha256.h"
#include "framework/base/check.h"
#include "framework/tensor/tensor.h"

namespace dujiang::launch {
namespace {

// The limits that hold for a source.
data::FilterProfile profile_for(const train::DataSection& data, const train::SourceSection& source) {
  if (source.profile == "none") return data::unfiltered();
  if (source.profile.empty()) return data::profile_of(source.genre);
  return *std::find_if(data.profiles.begin(), data.profiles.end(),
                       [&](const auto& profile) { return profile.name == source.profile; });
}

// Sources whose text is cleaned alike share an index.
std::unique_ptr<data::ContaminationFilter> contamination_filter(const train::DataSection& data,
                                                                const std::vector<data::BuildSource>& sources) {
  std::vector<std::shared_ptr<const data::ContaminationIndex>> indexes;
  for (std::size_t s = 0; s < sources.size(); ++s) {
    const data::ExtractConfig& own = data.sources[s].extract;
    const auto alike = std::ranges::find_if(data.sources, [&](const train::SourceSection& other) {
      return other.extract.simplify == own.simplify && other.extract.normalise == own.normalise;
    });
    const auto first = static_cast<std::size_t>(alike - data.sources.begin());
    indexes.push_back(
        first < s ? indexes[first]
                  : std::make_shared<const data::ContaminationIndex>(
                        data.contamination, [&](std::string&& text) { return sources[s].extract->clean(text); }));
  }
  return std::make_unique<data::ContaminationFilter>(std::move(indexes), data.contamination.max_share);
}

std::shared_ptr<const data::StepChain> steps_of(const train::DataSection& data,
                                                const std::vector<data::FilterProfile>& profiles,
                                                const std::vector<data::BuildSource>& sources) {
  std::vector<std::unique_ptr<data::Step>> steps;
  steps.push_back(std::make_unique<data::LineFilter>(profiles));
  steps.push_back(std::make_unique<data::DocumentFilter>(profiles));
  steps.push_back(std::make_unique<data::RepetitionFilter>(profiles));
  if (!data.quality_model.empty())
    steps.push_back(std::make_unique<data::QualityFilter>(
        std::make_shared<const data::QualityModel>(data::QualityModel::load(data.quality_model)), profiles));
  if (!data.contamination.evaluations.empty()) steps.push_back(contamination_filter(data, sources));
  steps.push_back(std::make_unique<data::PrivacyFilter>(profiles));
  if (!data.words.empty()) steps.push_back(std::make_unique<data::WordFilter>(data.words));
  return std::make_shared<const data::StepChain>(std::move(steps));
}

// All that decides which documents stay and what rejects tell: the settings, and the files that they name.
std::string identity_of(const train::Config& config) {
  std::string out;
  for (const std::string& line : train::data_settings(config))
    if (!line.starts_with("data.strict:")) out += line + "\n";  // it ends a build or doesn't
  std::vector<std::string> files;
  if (!config.data.quality_model.empty()) files.push_back(config.data.quality_model);
  for (const auto& list : config.data.words) files.push_back(list.file);
  for (const auto& evaluation : config.data.contamination.evaluations) files.push_back(evaluation.file);
  for (const auto& file : files) out += fmt::format("{}  {}\n", data::sha256_file(file), file);
  return out;
}

data::BuildConfig build_config(const train::Config& config) {
  const train::DataSection& data = config.data;
  data::BuildConfig build;
  std::vector<data::FilterProfile> profiles;
  for (const train::SourceSection& source : data.sources) {
    profiles.push_back(profile_for(data, source));
    data::check(profiles.back(), source.profile.empty() ? source.name : source.profile);
    data::ExtractConfig extract = source.extract;
    extract.field = source.read.field;
    build.sources.push_back({.name = source.name,
                             .files = source.files,
                             .read = source.read,
                             .extract = std::make_shared<const data::Extractor>(extract),
                             .min_chars = static_cast<std::int64_t>(profiles.back().document.min_chars)});
    build.dedup.clusters.priority.push_back(source.weight);
  }
  build.steps = steps_of(data, profiles, build.sources);
  if (data.repeated_lines.drop) build.repeated_lines = data.repeated_lines;
  auto priority = std::move(build.dedup.clusters.priority);
  build.dedup = data.dedup;
  build.dedup.clusters.priority = std::move(priority);
  build.held_out_share = data.held_out_share;
  build.strict = data.strict;
  build.reject_text = static_cast<std::size_t>(data.reject_text);
  build.identity = identity_of(config);
  return build;
}

}  // namespace

std::unique_ptr<comm::Communicator> builders(const train::Config& config) {
  return comm::make_communicator({.transport = config.comm.transport,
                                  .timeout = std::chrono::milliseconds(0),
                                  .bootstrap_timeout = config.comm.bootstrap_timeout,
                                  .check = config.comm.check});
}

std::unique_ptr<data::CorpusBuild> begin_build(const train::Config& config, comm::Communicator& communicator,
                                               Progress& progress, bool append) {
  const data::Team team{communicator.rank(), communicator.size(),
                        [&] { communicator.barrier(default_stream({})).wait_host(); }};
  auto mutex = std::make_shared<std::mutex>();
  const data::Say say = [&progress, mutex, leads = team.leads()](const std::string& line) {
    if (!leads) return;
    const std::scoped_lock lock(*mutex);
    progress.update([&] { return line; });
  };
  data::BuildConfig settings = build_config(config);
  settings.append = append;
  return std::make_unique<data::CorpusBuild>(std::move(settings), config.data.path, team, say);
}

std::vector<data::EvaluationFile> evaluation_files(const data::CorpusBuild& build) {
  const data::StepChain& steps = *build.config().steps;
  for (std::size_t i = 0; i < steps.size(); ++i)
    if (const auto* filter = dynamic_cast<const data::ContaminationFilter*>(&steps.step(i))) return filter->files();
  return {};
}

bool ChosenText::next(Document& out) {
  for (;;) {
    if (!piece_) {
      if (next_piece_ == build_.pieces()) return false;
      piece_ = std::make_unique<data::ChosenPiece>(build_.chosen(next_piece_++));
      next_document_ = 0;
    }
    if (next_document_ < piece_->documents.size()) {
      const auto& document = piece_->documents[next_document_++];
      out = {piece_->texts.text(document.index), piece_->texts.records()[document.index].source, document.held_out != 0,
             document.hash[0]};
      return true;
    }
    piece_.reset();
  }
}

}  // namespace dujiang::launch
