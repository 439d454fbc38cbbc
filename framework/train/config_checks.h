#pragma once
// Faults of values that do not fit each other. Internal to the config.

#include "framework/train/config_table.h"

namespace dujiang::train::config_checks {

/// Keys that `purpose` needs and that were not seen.
void check_missing(const Config& config, Purpose purpose, config_table::Reading& reading);

/// Fills the model's fields from model.from, where that is given.
void resolve_model(Config& config, Purpose purpose, config_table::Reading& reading);

/// Values that do not fit each other, among those that are sound themselves.
void check_relations(const Config& config, Purpose purpose, config_table::Reading& reading);

}  // namespace dujiang::train::config_checks
