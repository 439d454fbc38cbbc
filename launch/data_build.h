#pragma once

#include "framework/train/config.h"
#include "launch/command.h"

namespace dujiang::launch {

/// Builds the config's dataset and reports it. UserError: see data::build_corpus, data::load_tokenizer and
/// data::DatasetWriter. A call that is cut short leaves no manifest, so the next one starts over.
void build_data(const train::Config& config, bool keep_text, const Report& report);

}  // namespace dujiang::launch
