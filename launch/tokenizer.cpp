#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "data/text/utf8.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/train.h"
#include "framework/base/threads.h"
#include "framework/train/config.h"
#include "launch/command.h"
#include "launch/corpus.h"
#include "launch/parse.h"
#include "launch/tokenizer_report.h"

namespace dujiang::launch {
namespace {

struct TokenizerOptions {
  std::string config;
  std::vector<std::string> overrides;
  std::string model;
  std::string file = "-";
  std::vector<std::string> files;
  Report report;
};

// The documents a tokenizer may learn from, and those that it is judged on: the held-out text must not shape the
// vocabulary. Where the config holds none out, a fiftieth is kept for judging, by hash.
class TrainingDocuments {
 public:
  TrainingDocuments(const train::Config& config, const data::CorpusBuild& build)
      : text_(build), hold_back_(config.data.held_out_share == 0) {
    for (const auto& source : config.data.sources)
      sources_.push_back(
          {.name = source.name, .genre = std::string(data::name_of(source.genre)), .weight = source.weight});
  }
  const std::vector<data::TextSource>& sources() const { return sources_; }
  bool next(data::TrainingDocument& out) {
    ChosenText::Document document;
    if (!text_.next(document)) return false;
    out.source = document.source;
    out.held_back = document.held_out || (hold_back_ && document.hash % 50 == 0);
    out.text = document.text;
    return true;
  }

 private:
  ChosenText text_;
  bool hold_back_;
  std::vector<data::TextSource> sources_;
};

nlohmann::json counts_of(const data::TrainTokenizerReport& report, const std::vector<data::TextSource>& sources) {
  auto out = nlohmann::json::array();
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const auto& count = report.sources[i];
    out.push_back({{"name", sources[i].name},
                   {"documents", count.documents},
                   {"bytes", count.bytes},
                   {"sampled_bytes", count.sampled_bytes}});
  }
  return out;
}

int train_command(const TokenizerOptions& options) {
  const auto config = train::load_config(options.config, options.overrides, train::Purpose::train_tokenizer);
  const train::TokenizerSection& section = config.tokenizer;
  const data::TrainTokenizerConfig settings{.type = section.type,
                                            .vocab_size = static_cast<std::int32_t>(section.vocab_size),
                                            .sample_bytes = section.sample_bytes,
                                            .threads = thread_count(),
                                            .pretokenizer = data::pretokenizer_kind(section.pretokenizer),
                                            .min_frequency = section.min_frequency,
                                            .max_token_chars = section.max_token_chars,
                                            .character_coverage = section.character_coverage};
  const auto communicator = builders(config);
  Progress progress;
  const auto build = begin_build(config, *communicator, progress);
  build->choose();
  if (!build->team().leads()) return 0;
  if (build->report().ledger.let_out().documents == 0) build->fail_empty();
  TrainingDocuments documents(config, *build);
  std::int64_t count = 0;
  const auto next = [&](data::TrainingDocument& document) {
    if (!documents.next(document)) return false;
    ++count;
    progress.update([&] { return fmt::format("tokenizer: {} documents read", count); });
    return true;
  };
  const auto say = [](const std::string& phase) { fmt::print(stderr, "tokenizer: {}\n", phase); };
  const auto done = data::train_tokenizer(settings, documents.sources(), next, section.path, say);

  // A dataset that is there needs it no more; one that is still to be built goes on from it.
  if (std::filesystem::exists(std::filesystem::path(config.data.path) / "manifest.json")) build->remove_work();
  const char* judged = done.held_back ? "on documents held back" : "on the text trained on";
  options.report.print(
      fmt::format("{}tokenizer: {} pieces from {:.1f} of {:.1f} MB in {:.0f} s, judged {}: {}\n",
                  table_of(done.quality), settings.vocab_size, static_cast<double>(done.sampled_bytes) / 1e6,
                  static_cast<double>(done.bytes) / 1e6, done.seconds, judged, section.path),
      {{"path", section.path},
       {"type", settings.type},
       {"vocab_size", settings.vocab_size},
       {"documents", done.documents},
       {"bytes", done.bytes},
       {"sampled_bytes", done.sampled_bytes},
       {"sources", counts_of(done, documents.sources())},
       {"held_back", done.held_back},
       {"report", json_of(done.quality)},
       {"seconds", done.seconds}});
  return 0;
}

int report_command(const TokenizerOptions& options) {
  const auto tokenizer = open_tokenizer(options.model);
  std::vector<std::string> texts;
  std::vector<data::TextSource> sources;
  std::vector<data::SourceText> parts;
  for (const std::string& file : options.files) {
    texts.push_back(read_text(file));
    sources.push_back({.name = file});
  }
  for (std::size_t i = 0; i < texts.size(); ++i) parts.push_back({texts[i], static_cast<std::uint32_t>(i)});
  const auto report = data::report_tokenizer(*tokenizer, sources, parts, thread_count());
  options.report.print(table_of(report), json_of(report));
  return 0;
}

int encode_command(const TokenizerOptions& options) {
  const auto tokenizer = open_tokenizer(options.model);
  const std::string text = read_text(options.file);
  const auto ids = tokenizer->encode(text);
  if (options.report.json()) {
    options.report.print(
        "", {{"ids", ids}, {"tokens", ids.size()}, {"bytes", text.size()}, {"chars", data::count_chars(text)}});
  } else {
    fmt::print("{}\n", fmt::join(ids, " "));
  }
  return 0;
}

int decode_command(const TokenizerOptions& options) {
  const auto tokenizer = open_tokenizer(options.model);
  const auto ids = parse_ids(read_text(options.file), options.file);
  const std::string text = tokenizer->decode(ids);
  if (options.report.json()) {
    options.report.print("", {{"text", text}, {"tokens", ids.size()}, {"bytes", text.size()}});
  } else {
    std::fwrite(text.data(), 1, text.size(), stdout);
  }
  return 0;
}

}  // namespace

std::unique_ptr<data::Tokenizer> open_tokenizer(const std::string& dir) {
  auto tokenizer = data::load_tokenizer(dir);
  for (const auto& note : tokenizer->notes()) fmt::print(stderr, "{}: {}\n", dir, note);
  return tokenizer;
}

void add_tokenizer(CLI::App& app, Action& action) {
  auto* group = subcommand(app, "tokenizer", "Text to token ids and back",
                           "echo 你好 | dujiang tokenizer encode runs/quickstart/tokenizer");
  group->require_subcommand(1);
  auto options = std::make_shared<TokenizerOptions>();

  auto* training = subcommand(*group, "train", "Train a tokenizer on the config's text, held-out documents left out",
                              "dujiang tokenizer train configs/quickstart.yaml");
  training->add_option("CONFIG", options->config, "The YAML file")->required();
  training->add_option("OVERRIDES", options->overrides, "key.path=value");
  options->report.add_option(*training);
  training->callback([=, &action] { action = [=] { return train_command(*options); }; });

  auto* report = subcommand(*group, "report", "What a tokenizer makes of texts: characters per token, coverage of Han",
                            "dujiang tokenizer report runs/quickstart/tokenizer poem.txt prose.txt");
  report->add_option("MODEL", options->model, "A directory with a tokenizer")->required();
  report->add_option("FILE", options->files, "UTF-8 texts")->required();
  options->report.add_option(*report);
  report->callback([=, &action] { action = [=] { return report_command(*options); }; });

  auto* encode = subcommand(*group, "encode", "Text to ids on one line",
                            "dujiang tokenizer encode runs/quickstart/tokenizer poem.txt");
  encode->add_option("MODEL", options->model, "A directory with a tokenizer")->required();
  encode->add_option("FILE", options->file, "UTF-8 text; - or nothing: stdin");
  options->report.add_option(*encode);
  encode->callback([=, &action] { action = [=] { return encode_command(*options); }; });

  auto* decode = subcommand(*group, "decode", "Ids to the bytes they stand for",
                            "echo 17 404 23 | dujiang tokenizer decode runs/quickstart/tokenizer");
  decode->add_option("MODEL", options->model, "A directory with a tokenizer")->required();
  decode->add_option("FILE", options->file, "Ids between spaces or commas; - or nothing: stdin");
  options->report.add_option(*decode);
  decode->callback([=, &action] { action = [=] { return decode_command(*options); }; });
}

}  // namespace dujiang::launch
