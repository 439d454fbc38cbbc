#pragma once
// The subcommands of `dujiang data`, each in a file of its name.

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "data/corpus/pipeline/ledger.h"
#include "launch/command.h"

namespace dujiang::launch {

void add_data_build(CLI::App& group, Action& action);
void add_data_stats(CLI::App& group, Action& action);
void add_data_audit(CLI::App& group, Action& action);
void add_data_quality(CLI::App& group, Action& action);
void add_data_trace(CLI::App& group, Action& action);

/// Of build.json's evaluation files, each {file, items, too_short}, with how many items the input had: met.
nlohmann::json evaluations_met(const nlohmann::json& build);

/// What each step let through and each rule took, a line each.
std::string account_table(const data::Ledger& ledger);

}  // namespace dujiang::launch
