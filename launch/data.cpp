#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "data/shard/dataset.h"
#include "data/shard/manifest.h"
#include "framework/base/check.h"
#include "launch/command.h"
#include "launch/data_build.h"

namespace dujiang::launch {
namespace {

using nlohmann::json;

struct DataOptions {
  std::string config;
  std::vector<std::string> overrides;
  std::string folder;
  bool keep_text = false;
  Report report;
};

int stats(const DataOptions& options) {
  const std::filesystem::path folder = options.folder;
  const data::Manifest manifest = data::read_manifest(folder);
  json object = {{"path", options.folder},
                 {"vocab_size", manifest.info.vocab_size},
                 {"tokenizer_sha256", manifest.info.tokenizer_sha256},
                 {"shards", manifest.shards.size()}};
  std::string text;
  std::int64_t documents = 0, tokens = 0, bytes = 0;
  for (const auto& split : manifest.splits()) {
    const std::int64_t d = manifest.documents(split), t = manifest.tokens(split);
    object["splits"][split] = {{"documents", d}, {"tokens", t}};
    text += fmt::format("{:<8} {:>12} documents {:>15} tokens {:>10.1f} tokens per document\n", split, d, t,
                        static_cast<double>(t) / static_cast<double>(std::max<std::int64_t>(d, 1)));
    documents += d;
    tokens += t;
  }
  for (const auto& shard : manifest.shards) bytes += shard.bytes;
  object["documents"] = documents;
  object["tokens"] = tokens;
  object["bytes"] = bytes;
  text += fmt::format("{:<8} {:>12} documents {:>15} tokens in {} shards, {:.1f} MB\n", "all", documents, tokens,
                      manifest.shards.size(), static_cast<double>(bytes) / 1e6);
  text += fmt::format("vocabulary {}, tokenizer {}\n", manifest.info.vocab_size, manifest.info.tokenizer_sha256);
  object["pipeline"] = json::parse(manifest.info.pipeline, nullptr, false);
  object["sources"] = json::array();
  for (const auto& source : manifest.info.sources) {
    object["sources"].push_back({{"name", source.name}, {"licence", source.licence}, {"sha256", source.sha256}});
  }

  // What `data build` adds; datasets of other origin lack it.
  if (const auto path = folder / "build.json"; std::filesystem::exists(path)) {
    const json build = json::parse(read_text(path.string()), nullptr, false);
    if (!build.is_object()) fail_user("{}: not a JSON object: build the dataset anew", path.string());
    for (const auto& [name, value] : build.items()) object["build"][name] = value;
    if (build.contains("held_out") && build["held_out"].is_object()) {
      object["held_out_documents"] = build["held_out"].value("documents", 0);
      object["held_out_order0_bits_per_byte"] = build.value("held_out_order0_bits_per_byte", 0.0);
      text += fmt::format("held out: {} documents; an order-0 model of characters needs {:.3f} bits per byte\n",
                          object["held_out_documents"].get<std::int64_t>(),
                          object["held_out_order0_bits_per_byte"].get<double>());
    }
    const json kept = build.value("kept_by_source", json::object());
    for (const auto& [name, counts] : kept.items()) {
      text += fmt::format("{:>10.2f} MB {:>8} documents  {}\n", counts.value("bytes", 0.0) / 1e6,
                          counts.value("documents", 0), name);
    }
  }
  options.report.print(text, object);
  return 0;
}

int verify(const DataOptions& options) {
  const auto found = data::verify(options.folder);
  options.report.print(fmt::format("{}: sound: {} files, {} documents, {} tokens, {:.1f} MB\n", options.folder,
                                   found.files, found.documents, found.tokens, static_cast<double>(found.bytes) / 1e6),
                       {{"path", options.folder},
                        {"files", found.files},
                        {"documents", found.documents},
                        {"tokens", found.tokens},
                        {"bytes", found.bytes}});
  return 0;
}

}  // namespace

void add_data(CLI::App& app, Action& action) {
  auto* group = subcommand(app, "data", "Raw text to token shards, and what is in them",
                           "dujiang data build configs/quickstart.yaml");
  group->require_subcommand(1);
  auto options = std::make_shared<DataOptions>();

  auto* build = subcommand(*group, "build", "Read, filter, tokenize and write the config's text as shards",
                           "dujiang data build configs/quickstart.yaml data.held_out_share=0.02");
  build->add_option("CONFIG", options->config, "The YAML file; its tokenizer must exist")->required();
  build->add_option("OVERRIDES", options->overrides, "key.path=value");
  build->add_flag("--keep-text", options->keep_text, "Write the training text as train.txt, too");
  options->report.add_option(*build);
  build->callback([=, &action] {
    action = [=] {
      build_data(train::load_config(options->config, options->overrides, train::Purpose::build_data),
                 options->keep_text, options->report);
      return 0;
    };
  });

  auto* statistics = subcommand(*group, "stats", "Documents, tokens, sources and what the filters dropped",
                                "dujiang data stats runs/quickstart/data --json");
  statistics->add_option("DIR", options->folder, "A dataset")->required();
  options->report.add_option(*statistics);
  statistics->callback([=, &action] { action = [=] { return stats(*options); }; });

  auto* check = subcommand(*group, "verify", "Read everything and compare it with the checksums",
                           "dujiang data verify runs/quickstart/data");
  check->add_option("DIR", options->folder, "A dataset")->required();
  options->report.add_option(*check);
  check->callback([=, &action] { action = [=] { return verify(*options); }; });
}

}  // namespace dujiang::launch
