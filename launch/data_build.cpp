// dujiang data build: raw text through the corpus pipeline and the tokenizer into shards.
//
// Beside the dataset's own files it writes
//   held_out.txt          the held-out documents, a blank line between them: for `dujiang eval` and for other programs
//   train.txt             the training documents likewise, with --keep-text
//   rejects.jsonl.zst     every document that went: step, rule, value, limit, where it came from, how it begins
//   build.json            the account: what came into each step and what each rule took, by source

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "comm/bootstrap.h"
#include "data/corpus/pipeline/shards.h"
#include "data/text/sha256.h"
#include "data/tokenizer/tokenizer.h"
#include "framework/base/check.h"
#include "framework/base/files.h"
#include "launch/command.h"
#include "launch/corpus.h"
#include "launch/data_commands.h"

namespace dujiang::launch {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

data::DatasetInfo describe(const train::Config& config, const data::CorpusBuild& build,
                           const data::Tokenizer& tokenizer) {
  data::DatasetInfo info;
  info.vocab_size = tokenizer.vocab_size();
  info.tokenizer_sha256 = tokenizer.sha256();
  data::Sha256 settings;
  settings.update(build.config().identity);
  info.pipeline = json{{"settings_sha256", settings.hex()}, {"held_out_share", config.data.held_out_share}}.dump();
  for (std::size_t s = 0; s < config.data.sources.size(); ++s)
    info.sources.push_back({config.data.sources[s].name, config.data.sources[s].licence, build.source_digest(s)});
  return info;
}

struct BuildOptions {
  std::string config;
  std::vector<std::string> overrides;
  bool keep_text = false, keep_work = false;
  Report report;
};

json json_of(const data::SplitCounts& counts) {
  return {{"documents", counts.documents}, {"bytes", counts.bytes}, {"tokens", counts.tokens}};
}

json json_of(const train::Config& config, const data::CorpusBuild& build, const data::ShardReport& shards) {
  const data::ChoiceReport& choice = shards.choice;
  json sources = json::array(), faults = json::array(), evaluations = json::array();
  for (std::size_t s = 0; s < config.data.sources.size(); ++s) {
    const auto& source = config.data.sources[s];
    sources.push_back({{"name", source.name},
                       {"licence", source.licence},
                       {"genre", data::name_of(source.genre)},
                       {"weight", source.weight},
                       {"train", json_of(shards.train[s])},
                       {"held_out", json_of(shards.held_out[s])}});
  }
  for (const auto& fault : choice.faults)
    faults.push_back({{"rule", fault.rule}, {"offset", fault.offset}, {"message", fault.message}});
  for (const auto& file : evaluation_files(build))
    evaluations.push_back({{"file", file.file}, {"items", file.items}, {"too_short", file.too_short}});
  return {{"files", choice.files},
          {"input_bytes", choice.input_bytes},
          {"faults", faults},
          {"ledger", choice.ledger},
          {"sources", sources},
          {"evaluations", evaluations},
          {"twins", choice.twins},
          {"clusters", choice.clusters},
          {"train", json_of(shards.total(shards.train))},
          {"held_out", json_of(shards.total(shards.held_out))},
          {"train_chars", shards.order0.training_chars()},
          {"held_out_chars", shards.order0.held_out_chars()},
          {"held_out_order0_bits_per_byte", shards.order0.bits_per_byte()},
          {"tokenizer", config.tokenizer.path}};
}

std::string summary_of(const data::ShardReport& shards) {
  const data::ChoiceReport& choice = shards.choice;
  const auto in = choice.ledger.total(0).in;
  const auto train = shards.total(shards.train), held_out = shards.total(shards.held_out);
  std::string text = fmt::format(
      "data: {} files, {} documents of {:.2f} MB in; {} ({:.2f} MB) to train on, {} ({:.0f} KB) held out\n",
      choice.files, in.documents, static_cast<double>(in.bytes) / 1e6, train.documents,
      static_cast<double>(train.bytes) / 1e6, held_out.documents, static_cast<double>(held_out.bytes) / 1e3);
  text += account_table(choice.ledger);
  for (std::size_t i = 0; i < choice.faults.size() && i < 10; ++i)
    text += fmt::format("data: {}\n", choice.faults[i].message);
  if (choice.faults.size() > 10)
    text += fmt::format("data: and {} faults more in build.json\n", choice.faults.size() - 10);
  return text;
}

int run(const BuildOptions& options) {
  const auto config = train::load_config(options.config, options.overrides, train::Purpose::build_data);
  const auto tokenizer = open_tokenizer(config.tokenizer.path);
  if (config.tokenizer.vocab_size != 0 && tokenizer->vocab_size() != config.tokenizer.vocab_size) {
    fail_user("{}: the tokenizer has {} tokens, tokenizer.vocab_size says {}: train it anew or mend the config",
              config.tokenizer.path, tokenizer->vocab_size(), config.tokenizer.vocab_size);
  }
  if (tokenizer->eos_id() < 0) fail_user("{}: the tokenizer has no token that ends a document", config.tokenizer.path);

  const auto communicator = builders(config);
  Progress progress;
  const fs::path folder = config.data.path;
  // Beside work in progress, the manifest is that of a build that was cut short at its very end.
  if (fs::exists(folder / "manifest.json") && !fs::exists(folder / "work"))
    fail_user("{}: holds a dataset already; remove the folder or name another", folder.string());
  const auto build = begin_build(config, *communicator, progress);
  build->choose();
  const auto shards = data::write_dataset(*build, *tokenizer, describe(config, *build, *tokenizer),
                                          {config.data.shard_tokens, options.keep_text});
  if (!build->team().leads()) return 0;

  json object = json_of(config, *build, shards);
  object["seconds"] = progress.seconds();
  object["processes"] = build->team().size;
  write_file(folder / "build.json", object.dump(2) + "\n");
  if (!options.keep_work) build->remove_work();

  const auto train = shards.total(shards.train), held_out = shards.total(shards.held_out);
  const std::int64_t tokens = train.tokens + held_out.tokens;
  object["tokens"] = tokens;
  object["documents"] = train.documents + held_out.documents;
  object["shards"] = shards.manifest.shards.size();
  object["path"] = folder.string();
  options.report.print(
      summary_of(shards) +
          fmt::format("data: {} tokens in {} shards, {:.2f} characters per token, in {:.0f} s: {}\n", tokens,
                      shards.manifest.shards.size(),
                      static_cast<double>(shards.order0.training_chars() + shards.order0.held_out_chars()) /
                          static_cast<double>(std::max<std::int64_t>(tokens, 1)),
                      progress.seconds(), folder.string()),
      object);
  return 0;
}

}  // namespace

void add_data_build(CLI::App& group, Action& action) {
  auto options = std::make_shared<BuildOptions>();
  auto* command = subcommand(group, "build",
                             "Read, filter, deduplicate, tokenize and write the config's text as shards, under mpirun, "
                             "srun or alone. What was cut short goes on from where it stood",
                             "mpirun -n 2 dujiang data build configs/quickstart.yaml data.held_out_share=0.02");
  command->add_option("CONFIG", options->config, "The YAML file; its tokenizer must exist")->required();
  command->add_option("OVERRIDES", options->overrides, "key.path=value");
  command->add_flag("--keep-text", options->keep_text, "Write the training text as train.txt, too");
  command->add_flag("--keep-work", options->keep_work, "Leave DIR/work, the files between the steps");
  options->report.add_option(*command);
  command->callback([=, &action] { action = [=] { return run(*options); }; });
}

}  // namespace dujiang::launch
