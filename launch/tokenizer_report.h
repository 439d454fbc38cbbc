#pragma once
// How a tokenizer's report looks.

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "data/tokenizer/tokenizer_report.h"

namespace dujiang::launch {

/// Some lines, the last with its end.
std::string table_of(const data::TokenizerReport& report);
nlohmann::json json_of(const data::TokenizerReport& report);

}  // namespace dujiang::launch
