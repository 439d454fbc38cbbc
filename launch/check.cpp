#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "framework/train/config.h"
#include "launch/command.h"

namespace dujiang::launch {
namespace {

struct CheckOptions {
  std::string config;
  std::vector<std::string> overrides;
  train::Purpose purpose = train::Purpose::train;
  bool reference = false;
  Report report;
};

int check(const CheckOptions& options) {
  if (options.reference) {
    fmt::print("{}", train::config_reference());
    return 0;
  }
  const auto faults = train::check_config(options.config, options.overrides, options.purpose);
  std::string text;
  auto list = nlohmann::json::array();
  for (const auto& fault : faults) {
    text += fault.str() + "\n";
    list.push_back({{"file", fault.file}, {"line", fault.line}, {"column", fault.column}, {"message", fault.message}});
  }
  if (faults.empty()) text = fmt::format("{}: no faults\n", options.config);
  options.report.print(text, {{"faults", list}});
  return faults.empty() ? 0 : 2;
}

}  // namespace

void add_check(CLI::App& app, Action& action) {
  auto options = std::make_shared<CheckOptions>();
  auto* command = subcommand(app, "check", "Every fault of a config at once", "dujiang check configs/quickstart.yaml");
  auto* config = command->add_option("CONFIG", options->config, "The YAML file");
  command->add_option("OVERRIDES", options->overrides, "key.path=value, as for train");
  command->add_option("--for", options->purpose, "Which command the config is for: train, data or tokenizer")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, train::Purpose>{{"train", train::Purpose::train},
                                                {"data", train::Purpose::build_data},
                                                {"tokenizer", train::Purpose::train_tokenizer}}));
  auto* reference =
      command->add_flag("--reference", options->reference, "Print every key with type, default and meaning instead");
  options->report.add_option(*command);
  command->callback([=, &action] {
    if (config->count() == 0 && reference->count() == 0) throw CLI::RequiredError("CONFIG");
    action = [=] { return check(*options); };
  });
}

}  // namespace dujiang::launch
