#pragma once
// The subcommands of `dujiang data`, each in a file of its name.

#include <string>

#include "data/corpus/pipeline/ledger.h"
#include "launch/command.h"

namespace dujiang::launch {

void add_data_build(CLI::App& group, Action& action);
void add_data_stats(CLI::App& group, Action& action);
void add_data_audit(CLI::App& group, Action& action);
void add_data_quality(CLI::App& group, Action& action);
void add_data_trace(CLI::App& group, Action& action);

/// What each step let through and each rule took, a line each.
std::string account_table(const data::Ledger& ledger);

}  // namespace dujiang::launch
