#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
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

namespace dujiang::launch {
namespace {

struct TokenizerOptions {
  std::string config;
  std::vector<std::string> overrides;
  std::string model;
  std::string file = "-";
  Report report;
};

int train_command(const TokenizerOptions& options) {
  const auto config = train::load_config(options.config, options.overrides, train::Purpose::train_tokenizer);
  data::TrainTokenizerConfig settings;
  settings.vocab_size = static_cast<std::int32_t>(config.tokenizer.vocab_size);
  settings.model_type = config.tokenizer.type;
  settings.character_coverage = config.tokenizer.character_coverage;
  settings.sample_lines = config.tokenizer.sample_lines;
  settings.threads = thread_count();

  DocumentStream documents(corpus_of(config));
  std::int64_t count = 0;
  Progress progress;
  const auto next = [&](std::string& text) {
    data::PipelineDocument document;
    do {  // the held-out text must not shape the vocabulary either
      if (!documents.next(document)) return false;
    } while (document.held_out);
    text = std::move(document.text);
    ++count;
    progress.update([&] { return fmt::format("tokenizer: {} documents read", count); });
    return true;
  };
  const auto say = [](const std::string& phase) { fmt::print(stderr, "tokenizer: {}\n", phase); };
  const auto done = data::train_tokenizer(settings, next, config.tokenizer.path, say);

  options.report.print(
      fmt::format("tokenizer: {} pieces from {} lines of {} ({:.1f} MB) in {:.0f} s: {}\n", settings.vocab_size,
                  done.sampled_lines, done.lines, done.sampled_bytes / 1e6, done.seconds, config.tokenizer.path),
      {{"path", config.tokenizer.path},
       {"vocab_size", settings.vocab_size},
       {"documents", count},
       {"lines", done.lines},
       {"sampled_lines", done.sampled_lines},
       {"sampled_bytes", done.sampled_bytes},
       {"seconds", done.seconds}});
  return 0;
}

int encode_command(const TokenizerOptions& options) {
  const auto tokenizer = data::load_tokenizer(options.model);
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
  const auto tokenizer = data::load_tokenizer(options.model);
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
