#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "data/shard/dataset.h"
#include "launch/command.h"
#include "launch/data_commands.h"

namespace dujiang::launch {

using nlohmann::json;

namespace {

struct VerifyOptions {
  std::string folder;
  Report report;
};

int verify(const VerifyOptions& options) {
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

void add_data_verify(CLI::App& group, Action& action) {
  auto options = std::make_shared<VerifyOptions>();
  auto* command = subcommand(group, "verify", "Read everything and compare it with the checksums",
                             "dujiang data verify runs/quickstart/data");
  command->add_option("DIR", options->folder, "A dataset")->required();
  options->report.add_option(*command);
  command->callback([=, &action] { action = [=] { return verify(*options); }; });
}

}  // namespace

json evaluations_met(const json& build) {
  const auto ledger = build.at("ledger").get<data::Ledger>();
  data::Met met;
  for (std::size_t i = 0; i < ledger.steps().size(); ++i)
    if (ledger.steps()[i] == "contamination") met = ledger.total(i).met;
  json files = build.value("evaluations", json::array());
  for (json& file : files) file["met"] = met[file.at("file").get<std::string>()].size();
  return files;
}

std::string account_table(const data::Ledger& ledger) {
  std::string text = fmt::format("{:<16} {:<24} {:>12} {:>12} {:>10}\n", "step", "rule", "documents", "MB", "hits");
  for (std::size_t i = 0; i < ledger.steps().size(); ++i) {
    const data::StepAccount account = ledger.total(i);
    for (const auto& [rule, counts] : account.rules)
      text +=
          fmt::format("{:<16} {:<24} {:>12} {:>12.3f} {:>10}\n", ledger.steps()[i], rule, counts.documents.documents,
                      static_cast<double>(counts.documents.bytes + counts.bytes) / 1e6, counts.hits);
    text += fmt::format("{:<16} {:<24} {:>12} {:>12.3f}\n", ledger.steps()[i], "(let through)", account.out.documents,
                        static_cast<double>(account.out.bytes) / 1e6);
  }
  return text;
}

void add_data(CLI::App& app, Action& action) {
  auto* group = subcommand(app, "data", "Raw text to token shards, and what is in them",
                           "dujiang data build configs/quickstart.yaml");
  group->require_subcommand(1);
  add_data_build(*group, action);
  add_data_stats(*group, action);
  add_data_verify(*group, action);
  add_data_audit(*group, action);
  add_data_quality(*group, action);
  add_data_trace(*group, action);
}

}  // namespace dujiang::launch
