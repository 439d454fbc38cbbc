#include "data/tokenizer/tokenizer_json.h"

#include <array>
#include <vector>

#include "data/text/utf8.h"

namespace dujiang::data {

namespace {

using nlohmann::json;
using nlohmann::ordered_json;

// By byte, the character that spells it: itself where it is printable, else one from U+0100 on.
const std::array<char32_t, 256>& spellings() {
  static const auto table = [] {
    std::array<char32_t, 256> out{};
    char32_t next = 0x100;
    for (char32_t byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
      out[byte] = printable ? byte : next++;
    }
    return out;
  }();
  return table;
}

// As the models' own files spell them.
std::vector<std::string> expressions(PretokenizerKind kind) {
  switch (kind) {
    case PretokenizerKind::gpt2:
      return {R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"};
    case PretokenizerKind::llama3:
      return {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
              R"(|\s*[\r\n]+|\s+(?!\S)|\s+)"};
    case PretokenizerKind::qwen2:
      return {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
              R"(|\s*[\r\n]+|\s+(?!\S)|\s+)"};
    case PretokenizerKind::deepseek_v3:
      return {R"(\p{N}{1,3})", "[一-龥\u3040-ゟ゠-ヿ]+",
              R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|)"
              "[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"};
  }
  return {};
}

// A line break may stand for itself or be escaped.
std::string with_escapes(std::string_view expression) {
  std::string out;
  for (const char c : expression) {
    if (c == '\r') {
      out += "\\r";
    } else if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out;
}

// The expression of a Split that keeps the matches and what is between them; nothing for any other.
std::optional<std::string> split_expression(const json& step) {
  if (step.value("type", "") != "Split" || !step.contains("pattern") || !step["pattern"].contains("Regex")) return {};
  const std::string behavior = step.value("behavior", "");
  const bool invert = step.value("invert", false);
  // Removing what doesn't match is the same where everything matches.
  const bool isolated = behavior == "Isolated" && !invert, inverted = behavior == "Removed" && invert;
  auto expression = with_escapes(step["pattern"]["Regex"].get<std::string>());
  if (isolated || (inverted && expression.ends_with(R"(|\s+)"))) return expression;
  return {};
}

}  // namespace

std::string spell_bytes(std::string_view bytes) {
  std::string out;
  for (const char byte : bytes) append_utf8(out, spellings()[static_cast<unsigned char>(byte)]);
  return out;
}

std::optional<std::string> unspell_bytes(std::string_view spelling) {
  static const auto bytes = [] {
    std::array<int, 0x200> table{};
    table.fill(-1);
    for (int byte = 0; byte < 256; ++byte) table[spellings()[static_cast<std::size_t>(byte)]] = byte;
    return table;
  }();
  std::string out;
  for (std::size_t pos = 0; pos < spelling.size();) {
    const char32_t c = next_char(spelling, pos);
    if (c >= bytes.size() || bytes[c] < 0) return {};
    out += static_cast<char>(bytes[c]);
  }
  return out;
}

ordered_json pre_tokenizer_json(PretokenizerKind kind) {
  ordered_json byte_level{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}};
  if (kind == PretokenizerKind::gpt2) {
    byte_level["use_regex"] = true;
    return byte_level;
  }
  byte_level["use_regex"] = false;
  ordered_json steps = ordered_json::array();
  for (const std::string& expression : expressions(kind)) {
    steps.push_back(
        {{"type", "Split"}, {"pattern", {{"Regex", expression}}}, {"behavior", "Isolated"}, {"invert", false}});
  }
  steps.push_back(byte_level);
  return {{"type", "Sequence"}, {"pretokenizers", steps}};
}

std::optional<PretokenizerKind> pre_tokenizer_of(const json& given) {
  json steps = json::array({given});
  if (given.is_object() && given.value("type", "") == "Sequence") steps = given.value("pretokenizers", json::array());
  if (!steps.is_array() || steps.empty()) return {};
  std::vector<std::string> found;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    if (!steps[i].is_object()) return {};
    if (i + 1 < steps.size()) {
      const auto expression = split_expression(steps[i]);
      if (!expression) return {};
      found.push_back(*expression);
    } else if (steps[i].value("type", "") != "ByteLevel" || steps[i].value("add_prefix_space", true)) {
      return {};
    } else if (steps[i].value("use_regex", true)) {  // GPT-2's is built in
      if (!found.empty()) return {};
      return PretokenizerKind::gpt2;
    }
  }
  for (const auto kind :
       {PretokenizerKind::gpt2, PretokenizerKind::llama3, PretokenizerKind::qwen2, PretokenizerKind::deepseek_v3}) {
    auto wanted = expressions(kind);
    for (std::string& expression : wanted) expression = with_escapes(expression);
    if (wanted == found) return kind;
  }
  return {};
}

}  // namespace dujiang::data
