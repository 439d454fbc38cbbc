#include "launch/data_commands.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "data/text/utf8.h"
#include "framework/base/check.h"
#include "framework/train/data_trace.h"

namespace dujiang::launch {
namespace {

using nlohmann::json;

struct TraceOptions {
  std::string run, file;
  std::int64_t step = 0, steps = 0;
  int rank = 0, ranks = 1;
  Report report;
};

// A path in UTF-8: what isn't so stands as \xHH.
std::string readable(std::string_view path) {
  std::string out;
  while (!path.empty()) {
    const auto valid = data::utf8_valid_prefix(path);
    out += path.substr(0, valid);
    path.remove_prefix(valid);
    if (path.empty()) break;
    out += fmt::format("\\x{:02x}", static_cast<unsigned char>(path[0]));
    path.remove_prefix(1);
  }
  return out;
}

int trace_step(const TraceOptions& options) {
  train::DataTrace trace(options.run);
  std::string text;
  json object{{"run", options.run}, {"step", options.step}, {"rank", options.rank}, {"ranks", options.ranks}};
  object["sequences"] = json::array();
  for (const auto& sequence : trace.step(options.step, options.rank, options.ranks)) {
    text += fmt::format("sequence {}: {}, epoch {}\n", sequence.sequence, sequence.dataset, sequence.epoch);
    auto& passages = object["sequences"].emplace_back(json{{"sequence", sequence.sequence},
                                                           {"dataset", sequence.dataset},
                                                           {"epoch", sequence.epoch},
                                                           {"passages", json::array()}})["passages"];
    for (const auto& p : sequence.passages) {
      text += fmt::format("  {:>6} to {:<6} document {} tokens {} to {}: {}, {}, {} bytes {} to {}\n", p.at,
                          p.at + p.count, p.document, p.first, p.first + p.count, p.source,
                          p.licence.empty() ? "no licence named" : p.licence, readable(p.file), p.offset,
                          p.offset + p.bytes);
      passages.push_back({{"at", p.at},
                          {"document", p.document},
                          {"first_token", p.first},
                          {"tokens", p.count},
                          {"source", p.source},
                          {"licence", p.licence},
                          {"file", readable(p.file)},
                          {"offset", p.offset},
                          {"bytes", p.bytes}});
    }
  }
  options.report.print(text, object);
  return 0;
}

int trace_file(const TraceOptions& options) {
  train::DataTrace trace(options.run);
  const std::int64_t steps = options.steps > 0 ? options.steps : trace.steps();
  const auto sightings = trace.file(options.file, steps);
  json object{{"run", options.run}, {"file", readable(options.file)}, {"steps", steps}, {"seen", json::array()}};
  std::string text;
  for (const auto& s : sightings) {
    text += fmt::format("step {}  sequence {}  document {} of {}\n", s.step, s.sequence, s.document, s.dataset);
    object["seen"].push_back(
        {{"step", s.step}, {"sequence", s.sequence}, {"document", s.document}, {"dataset", s.dataset}});
  }
  text += fmt::format("{}: seen {} times in steps 1 to {}\n", readable(options.file), sightings.size(), steps);
  options.report.print(text, object);
  return 0;
}

}  // namespace

void add_data_trace(CLI::App& group, Action& action) {
  const auto options = std::make_shared<TraceOptions>();
  auto* trace = subcommand(group, "trace", "Which documents a step of a run saw, or which steps saw a file's documents",
                           "dujiang data trace runs/quickstart --step 100");
  trace->add_option("DIR", options->run, "A run's directory, or a config")->required();
  auto* step = trace->add_option("--step", options->step, "A step, counted from 1");
  trace->add_option("--rank", options->rank, "Only what this rank takes")->needs(step);
  trace->add_option("--ranks", options->ranks, "Of so many")->needs(step);
  auto* file = trace->add_option("--file", options->file, "A source file, as shards name it")->excludes(step);
  trace->add_option("--steps", options->steps, "With --file: up to this step; by default those done, or all")
      ->needs(file);
  options->report.add_option(*trace);
  trace->callback([=, &action] {
    if (step->empty() && file->empty()) throw CLI::ValidationError("--step or --file is needed");
    action = [=] { return options->file.empty() ? trace_step(*options) : trace_file(*options); };
  });
}

}  // namespace dujiang::launch
