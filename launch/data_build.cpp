// dujiang data build: raw text through the corpus pipeline and the tokenizer into shards.
//
// Beside the dataset's own files it writes
//   held_out.txt          the held-out documents, a blank line between them: for `dujiang eval` and for other programs
//   train.txt             the training documents likewise, with --keep-text
//   rejects.jsonl.zst     every document that went: step, rule, value, limit, where it came from, how it begins
//   build.json            the account: what came into each step and what each rule took, by source
//   files.sha256          the files that were read: what a growth leaves out
//   order0.json           how often each character stands in the text

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "comm/bootstrap.h"
#include "data/corpus/pipeline/shards.h"
#include "data/text/sha256.h"
#include "data/tokenizer/tokenizer.h"
#include "framework/base/check.h"
#include "framework/base/files.h"
#include "framework/tensor/tensor.h"
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
  std::vector<bool> has_files(config.data.sources.size());
  for (const auto& file : build.plan().files) has_files[file.source] = true;
  for (std::size_t s = 0; s < config.data.sources.size(); ++s) {
    const auto& from = config.data.sources[s];
    data::Source source{from.name, from.licence, build.source_digest(s)};
    if (build.before() && !has_files[s])  // nothing is added to it
      for (const auto& known : build.before()->info.sources)
        if (known.name == from.name) source = known;
    info.sources.push_back(source);
  }
  return info;
}

struct BuildOptions {
  std::string config;
  std::vector<std::string> overrides;
  bool append = false, keep_text = false, keep_work = false;
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

json read_json(const fs::path& path) {
  const json object = json::parse(read_text(path.string()), nullptr, false);
  if (!object.is_object() || !object.contains("ledger"))
    fail_user("{}: not the account of a build: build the dataset anew", path.string());
  return object;
}

// What must be as it was for a dataset to grow: the tokenizer, the split and the account's steps.
void check_growth(const train::Config& config, const data::CorpusBuild& build, const data::Tokenizer& tokenizer) {
  const std::string folder = build.folder().string();
  const data::DatasetInfo& info = build.before()->info;
  if (info.tokenizer_sha256 != tokenizer.sha256())
    fail_user("{}: was made with another tokenizer than {}: a dataset grows with its own", folder,
              config.tokenizer.path);
  const json share = json::parse(info.pipeline).value("held_out_share", json());
  if (share != config.data.held_out_share)
    fail_user("{}: was built with data.held_out_share: {}, the config says {}: a dataset grows with its own", folder,
              share.dump(), config.data.held_out_share);
  const json before = read_json(build.folder() / "build.json");
  if (before.at("ledger").at("steps") != build.steps())
    fail_user(
        "{}: was built with the steps {}, the config has {}: a dataset grows with the same, so that its account "
        "stays one",
        folder, before.at("ledger").at("steps").dump(), json(build.steps()).dump());
  for (const json& source : before.at("sources"))
    for (const auto& now : config.data.sources)
      if (source.at("name") == now.name && source.at("licence") != now.licence)
        fail_user("{}: source {} has the licence {}, the config says \"{}\": give the new one another name", folder,
                  now.name, source.at("licence").dump(), now.licence);
}

void add(json& sum, const json& more) {
  for (const auto& [key, value] : more.items()) sum[key] = sum[key].get<std::int64_t>() + value.get<std::int64_t>();
}

// The account of a dataset that grew: sums over all, by source, and what this growth brought.
json grown(json all, json added, const data::CorpusBuild& build, const data::DatasetInfo& info) {
  const std::size_t sources_before = all.at("sources").size();
  std::vector<std::size_t> place;  // of each source of this growth among all
  for (const json& source : added.at("sources")) {
    std::size_t s = 0;
    while (s < all["sources"].size() && all["sources"][s].at("name") != source.at("name")) ++s;
    place.push_back(s);
    if (s == all["sources"].size()) {
      all["sources"].push_back(source);
    } else {
      for (const char* split : {"train", "held_out"}) add(all["sources"][s][split], source.at(split));
    }
  }
  const auto widened = [&](const json& from, const auto& place_of) {
    const auto part = from.get<data::Ledger>();
    data::Ledger out(build.steps(), all["sources"].size());
    for (std::size_t s = 0; s < part.sources(); ++s) out.of(place_of(s)) = part.of(s);
    return out;
  };
  data::Ledger ledger = widened(all.at("ledger"), [](std::size_t s) { return s; });
  ledger += widened(added.at("ledger"), [&](std::size_t s) { return place[s]; });
  ledger.check();
  all["ledger"] = ledger;
  for (const char* count : {"files", "input_bytes", "twins", "clusters"})
    all[count] = all[count].get<std::uint64_t>() + added[count].get<std::uint64_t>();
  for (const char* split : {"train", "held_out"}) add(all[split], added[split]);
  for (const json& fault : added["faults"]) all["faults"].push_back(fault);
  for (const char* figure : {"train_chars", "held_out_chars", "held_out_order0_bits_per_byte"})
    all[figure] = added[figure];  // these are of all text
  json sources = json::array();
  for (const auto& source : info.sources)
    if (std::ranges::find(build.before()->info.sources, source) == build.before()->info.sources.end())
      sources.push_back({{"name", source.name}, {"sha256", source.sha256}});
  all["evaluations"] = added["evaluations"];
  json growth = {{"sources", sources}, {"new_sources", all["sources"].size() - sources_before}};
  growth["documents"] = json(added.at("ledger").get<data::Ledger>().total(0).in.documents);
  growth["settings_sha256"] = json::parse(info.pipeline).at("settings_sha256");
  for (const char* key : {"files", "input_bytes", "train", "held_out", "faults", "seconds", "processes"})
    growth[key] = added[key];
  all["growths"].push_back(growth);
  return all;
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
  // Beside settings of work in progress, the manifest is that of a build that was cut short at its very end, or of a
  // dataset that grows.
  const bool begun = fs::exists(folder / "work" / "settings.yaml"), there = fs::exists(folder / "manifest.json");
  if (there && !begun && !options.append && fs::exists(folder / "work")) {
    communicator->barrier(default_stream({})).wait_host();  // all have looked
    if (communicator->rank() != 0) return 0;
    fs::remove_all(folder / "work");
    options.report.print(
        fmt::format("data: {} was finished before; removed what was left of its work\n", folder.string()),
        {{"path", folder.string()}});
    return 0;
  }
  if (there && !begun && !options.append)
    fail_user("{}: holds a dataset already; remove the folder, name another, or add to it with --append",
              folder.string());
  if (!there && options.append)
    fail_user("{}: holds no dataset to add to; build one without --append", folder.string());
  const bool keep_text = options.append ? fs::exists(folder / "train.txt") : options.keep_text;
  if (options.keep_text && !keep_text)
    fail_user("{}: has no train.txt that more text could be added to: leave --keep-text away", folder.string());

  const auto build = begin_build(config, *communicator, progress, options.append);
  if (options.append) {
    build->team().barrier();
    try {
      check_growth(config, *build, *tokenizer);
    } catch (...) {
      if (!begun) build->remove_work();  // nothing was done yet
      throw;
    }
  }
  build->choose();
  if (options.append && build->pieces() == 0) {
    build->team().barrier();
    if (!build->team().leads()) return 0;
    const auto faults = build->report().faults;
    std::string text;
    for (const auto& fault : faults) text += fmt::format("data: {}\n", fault.message);
    build->remove_work();
    options.report.print(text + fmt::format("data: no files that {} doesn't have: nothing to add\n", folder.string()),
                         {{"path", folder.string()}, {"files", 0}, {"faults", faults.size()}});
    return 0;
  }
  const data::DatasetInfo info = describe(config, *build, *tokenizer);
  json object;
  const auto account = [&](const data::ShardReport& shards) {
    object = json_of(config, *build, shards);
    object["seconds"] = progress.seconds();
    object["processes"] = build->team().size;
    if (options.append) object = grown(read_json(folder / "build.json"), object, *build, info);
    return object.dump(2) + "\n";
  };
  const auto shards = data::write_dataset(*build, *tokenizer, info, {config.data.shard_tokens, keep_text, account});
  if (!build->team().leads()) return 0;
  if (object.is_null()) object = read_json(folder / "build.json");
  if (!options.keep_work) build->remove_work();

  std::int64_t tokens = 0;
  object["documents"] = 0;
  for (const auto& shard : shards.manifest.shards) {
    tokens += shard.tokens;
    object["documents"] = object["documents"].get<std::int64_t>() + shard.documents;
  }
  object["tokens"] = tokens;
  object["shards"] = shards.manifest.shards.size();
  object["path"] = folder.string();
  const std::int64_t added = shards.total(shards.train).tokens + shards.total(shards.held_out).tokens;
  const std::string grew = options.append ? fmt::format("data: {} tokens were added\n", added) : "";
  options.report.print(
      summary_of(shards) + grew +
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
  command->add_flag("--append", options->append,
                    "Add the files that DIR doesn't have yet to the dataset that it holds");
  command->add_flag("--keep-text", options->keep_text, "Write the training text as train.txt, too");
  command->add_flag("--keep-work", options->keep_work, "Leave DIR/work, the files between the steps");
  options->report.add_option(*command);
  command->callback([=, &action] { action = [=] { return run(*options); }; });
}

}  // namespace dujiang::launch
