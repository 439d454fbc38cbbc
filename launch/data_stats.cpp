// dujiang data stats: what a dataset holds, and what became of the rest.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "data/corpus/pipeline/ledger.h"
#include "data/corpus/read/input.h"
#include "data/shard/manifest.h"
#include "framework/base/check.h"
#include "launch/command.h"
#include "launch/data_commands.h"

namespace dujiang::launch {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

struct StatsOptions {
  std::string folder, rule;
  std::int64_t examples = 0;
  Report report;
};

std::string sizes(const data::Manifest& manifest, json& object) {
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
  return text + fmt::format("vocabulary {}, tokenizer {}\n", manifest.info.vocab_size, manifest.info.tokenizer_sha256);
}

std::string sources(const json& build) {
  std::string text = fmt::format("\n{:<24} {:<10} {:>12} {:>12} {:>8} {:>14}  {}\n", "source", "genre", "in", "kept",
                                 "passed", "train tokens", "licence");
  const auto ledger = build.at("ledger").get<data::Ledger>();
  for (std::size_t s = 0; s < ledger.sources(); ++s) {
    const json& source = build.at("sources").at(s);
    const auto in = ledger.of(s).front().in.documents, out = ledger.of(s).back().out.documents;
    text += fmt::format("{:<24} {:<10} {:>12} {:>12} {:>6.1f} % {:>14}  {}\n", source.at("name").get<std::string>(),
                        source.at("genre").get<std::string>(), in, out,
                        100.0 * static_cast<double>(out) / static_cast<double>(std::max<std::int64_t>(in, 1)),
                        source.at("train").at("tokens").get<std::int64_t>(), source.at("licence").get<std::string>());
  }
  return text;
}

// How much of the evaluation files the input had.
std::string evaluations(const json& files) {
  if (files.empty()) return {};
  std::string text = fmt::format("\n{:<40} {:>10} {:>10} {:>10}\n", "evaluation items", "all", "too short", "met");
  for (const json& file : files)
    text += fmt::format("{:<40} {:>10} {:>10} {:>10}\n", file.at("file").get<std::string>(),
                        file.at("items").get<std::int64_t>(), file.at("too_short").get<std::int64_t>(),
                        file.at("met").get<std::int64_t>());
  return text;
}

// The first rejected documents of each rule, or of one.
std::string examples(const StatsOptions& options, json& object) {
  std::map<std::string, json> found;
  data::LineReader lines((fs::path(options.folder) / "rejects.jsonl.zst").string());
  for (std::string line; lines.next(line);) {
    const json reject = json::parse(line, nullptr, false);
    if (!reject.is_object()) fail_user("{}: rejects.jsonl.zst is damaged", options.folder);
    const std::string rule = reject.at("rule");
    if (!options.rule.empty() && rule != options.rule) continue;
    json& list = found[rule];
    if (static_cast<std::int64_t>(list.size()) < options.examples) list.push_back(reject);
  }
  std::string text;
  for (const auto& [rule, list] : found) {
    text += fmt::format("\n{}\n", rule);
    for (const json& r : list)
      text += fmt::format("  {}: byte {}: {:.4g}, limit {:.4g}{}{}\n    {}\n", r.at("file").get<std::string>(),
                          r.at("offset").get<std::uint64_t>(), r.at("value").get<double>(), r.at("limit").get<double>(),
                          r.at("detail").get<std::string>().empty() ? "" : "; ", r.at("detail").get<std::string>(),
                          json(r.at("text")).dump());
    object["examples"][rule] = list;
  }
  if (found.empty())
    text += fmt::format("\nno document was rejected{}\n", options.rule.empty() ? "" : " by " + options.rule);
  return text;
}

int stats(const StatsOptions& options) {
  const fs::path folder = options.folder;
  const data::Manifest manifest = data::read_manifest(folder);
  json object = {{"path", options.folder},
                 {"vocab_size", manifest.info.vocab_size},
                 {"tokenizer_sha256", manifest.info.tokenizer_sha256},
                 {"shards", manifest.shards.size()}};
  std::string text = sizes(manifest, object);
  object["pipeline"] = json::parse(manifest.info.pipeline, nullptr, false);
  object["sources"] = json::array();
  for (const auto& source : manifest.info.sources)
    object["sources"].push_back({{"name", source.name}, {"licence", source.licence}, {"sha256", source.sha256}});

  // What `data build` adds; datasets of other origin lack it.
  if (const fs::path path = folder / "build.json"; fs::exists(path)) {
    const json build = json::parse(read_text(path.string()), nullptr, false);
    if (!build.is_object() || !build.contains("ledger"))
      fail_user("{}: not the account of a build: build the dataset anew", path.string());
    object["build"] = build;
    object["held_out_documents"] = build.at("held_out").at("documents");
    object["held_out_order0_bits_per_byte"] = build.at("held_out_order0_bits_per_byte");
    text += fmt::format("held out: {} documents; an order-0 model of characters needs {:.3f} bits per byte\n",
                        object["held_out_documents"].get<std::int64_t>(),
                        object["held_out_order0_bits_per_byte"].get<double>());
    for (const json& growth : build.value("growths", json::array()))
      text += fmt::format("grew by {} file{}: {} documents in, {} to train on, {} held out\n",
                          growth.at("files").get<std::int64_t>(), growth.at("files") == 1 ? "" : "s",
                          growth.at("documents").get<std::int64_t>(),
                          growth.at("train").at("documents").get<std::int64_t>(),
                          growth.at("held_out").at("documents").get<std::int64_t>());
    object["evaluations"] = evaluations_met(build);
    text += sources(build) + evaluations(object["evaluations"]) + "\n" +
            account_table(build.at("ledger").get<data::Ledger>());
  }
  if (options.examples > 0 || !options.rule.empty()) text += examples(options, object);
  options.report.print(text, object);
  return 0;
}

}  // namespace

void add_data_stats(CLI::App& group, Action& action) {
  auto options = std::make_shared<StatsOptions>();
  auto* command = subcommand(group, "stats", "Documents, tokens and sources, and what each rule took",
                             "dujiang data stats runs/quickstart/data --examples 2");
  command->add_option("DIR", options->folder, "A dataset")->required();
  command->add_option("--examples", options->examples, "Rejected documents to show of each rule");
  command->add_option("--rule", options->rule, "Only those of this rule");
  options->report.add_option(*command);
  command->callback([=, &action] {
    action = [=] {
      if (!options->rule.empty() && options->examples == 0) options->examples = 10;
      return stats(*options);
    };
  });
}

}  // namespace dujiang::launch
