#pragma once
// What reading and writing tokenizer.json have in common.

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "data/tokenizer/pretokenizer.h"

namespace dujiang::data {

/// Bytes spelt as GPT-2 does: a printable character for each, U+0120 for the space.
std::string spell_bytes(std::string_view bytes);
/// Nothing when a character stands for no byte.
std::optional<std::string> unspell_bytes(std::string_view spelling);

/// The `pre_tokenizer` of tokenizer.json.
nlohmann::ordered_json pre_tokenizer_json(PretokenizerKind kind);
/// Nothing when it is none of those that there are.
std::optional<PretokenizerKind> pre_tokenizer_of(const nlohmann::json& json);

}  // namespace dujiang::data
