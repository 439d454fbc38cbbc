// dujiang data quality: the classifier that tells good documents from bad.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "data/corpus/filter/quality.h"
#include "data/corpus/read/texts.h"
#include "launch/data_commands.h"

namespace dujiang::launch {
namespace {

struct QualityOptions {
  std::vector<std::string> good, bad;
  std::string field = "text";
  std::string out;
  data::QualityConfig config;
  Report report;
};

int train_quality(const QualityOptions& options) {
  Progress progress;
  std::vector<std::string> good, bad;
  for (const bool is_good : {true, false}) {
    auto& texts = is_good ? good : bad;
    data::for_each_text(
        is_good ? options.good : options.bad, {.field = options.field}, {.field = options.field},
        [&](std::string&& text) {
          // The model reads no more of it.
          if (text.size() > options.config.max_bytes + 4) text.resize(options.config.max_bytes + 4);
          text.shrink_to_fit();
          texts.push_back(std::move(text));
          progress.update([&] { return fmt::format("{} good, {} bad documents", good.size(), bad.size()); });
        });
  }
  data::QualityReport found;
  data::train_quality(good, bad, options.config, found).save(options.out);
  options.report.print(
      fmt::format("{}: learnt from {} good and {} bad documents in {:.1f} s\n"
                  "held back: {} good, {} bad; AUC {:.4f}; at 0.5, {:.1f} % of the good stay and {:.1f} % of the bad\n",
                  options.out, found.good, found.bad, progress.seconds(), found.held_good, found.held_bad, found.auc,
                  100 * found.good_kept, 100 * found.bad_kept),
      {{"path", options.out},
       {"good", found.good},
       {"bad", found.bad},
       {"held_back", {{"good", found.held_good}, {"bad", found.held_bad}}},
       {"auc", found.auc},
       {"good_kept", found.good_kept},
       {"bad_kept", found.bad_kept}});
  return 0;
}

}  // namespace

void add_data_quality(CLI::App& group, Action& action) {
  auto* quality = subcommand(group, "quality", "The classifier that tells good documents from bad",
                             "dujiang data quality train --good books/*.txt --bad forum.jsonl --out quality.bin");
  quality->require_subcommand(1);
  auto options = std::make_shared<QualityOptions>();
  auto* train = subcommand(*quality, "train", "Learn from samples of both; a tenth is held back for the AUC",
                           "dujiang data quality train --good books/*.txt --bad forum.jsonl --out quality.bin");
  train->add_option("--good", options->good, "Files or globs with good documents, of any format that sources have")
      ->required();
  train->add_option("--bad", options->bad, "Likewise with bad ones")->required();
  train->add_option("--out", options->out, "The model")->required();
  train->add_option("--field", options->field, "The text's field (JSON lines) or column (CSV)")->capture_default_str();
  train->add_option("--bits", options->config.bits, "2^bits weights")->capture_default_str();
  train->add_option("--epochs", options->config.epochs, "Times that each document is seen")->capture_default_str();
  train->add_option("--max-bytes", options->config.max_bytes, "A document's beginning that is read")
      ->capture_default_str();
  options->report.add_option(*train);
  train->callback([=, &action] { action = [=] { return train_quality(*options); }; });
}

}  // namespace dujiang::launch
