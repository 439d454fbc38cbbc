#include "launch/tokenizer_report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "data/text/utf8.h"

namespace dujiang::launch {
namespace {

using Text = data::TokenizerReport::Text;
using Han = data::TokenizerReport::Han;

// Han and other wide characters take two columns.
std::string padded(std::string_view text, std::size_t columns) {
  std::size_t width = 0;
  for (std::size_t pos = 0; pos < text.size();) width += data::is_wide(data::next_char(text, pos)) ? 2 : 1;
  return std::string(text) + std::string(columns > width ? columns - width : 0, ' ');
}

nlohmann::json json_of(const Text& text) {
  nlohmann::json out{{"documents", text.documents},
                     {"bytes", text.bytes},
                     {"chars", text.chars},
                     {"tokens", text.tokens},
                     {"chars_per_token", text.chars_per_token()}};
  if (!text.name.empty()) out["name"] = text.name;
  return out;
}

nlohmann::json json_of(const std::vector<Text>& texts) {
  auto out = nlohmann::json::array();
  for (const Text& text : texts) out.push_back(json_of(text));
  return out;
}

nlohmann::json json_of(const Han& han) {
  return {{"chars", han.chars}, {"single", han.single}, {"share", han.share()}};
}

}  // namespace

std::string table_of(const data::TokenizerReport& report) {
  std::string out =
      fmt::format("{:<32}{:>10}{:>12}{:>12}{:>12}\n", "", "documents", "characters", "tokens", "chars/token");
  const auto rows = [&](std::string_view label, const std::vector<Text>& texts) {
    for (const Text& text : texts) {
      out += fmt::format("{}{:>10}{:>12}{:>12}{:>12.3f}\n", padded(fmt::format("{} {}", label, text.name), 32),
                         text.documents, text.chars, text.tokens, text.chars_per_token());
    }
  };
  rows("all", {report.all});
  rows("genre", report.genres);
  rows("source", report.sources);
  const auto percent = [](std::int64_t part, std::int64_t whole) {
    return whole ? 100 * static_cast<double>(part) / static_cast<double>(whole) : 0;
  };
  out += fmt::format("unused here: {} of {} pieces above a byte ({:.1f} %)\n", report.unused, report.pieces,
                     percent(report.unused, report.pieces));
  out += fmt::format(
      "Han of one token: GB 2312 level 1 {} of {} ({:.1f} %), level 2 {} of {} ({:.1f} %); here {} of {} different, "
      "{:.2f} % by occurrence\n",
      report.level1.single, report.level1.chars, percent(report.level1.single, report.level1.chars),
      report.level2.single, report.level2.chars, percent(report.level2.single, report.level2.chars),
      report.distinct.single, report.distinct.chars, percent(report.occurrences.single, report.occurrences.chars));
  out += fmt::format("longer than {} characters: {} tokens", report.long_chars, report.long_tokens);
  if (!report.longest.empty()) out += fmt::format(", such as {}", nlohmann::json(report.longest).dump());
  return out + "\n";
}

nlohmann::json json_of(const data::TokenizerReport& report) {
  return {{"vocab_size", report.vocab_size},
          {"all", json_of(report.all)},
          {"genres", json_of(report.genres)},
          {"sources", json_of(report.sources)},
          {"pieces", report.pieces},
          {"unused", report.unused},
          {"gb2312_level1", json_of(report.level1)},
          {"gb2312_level2", json_of(report.level2)},
          {"han_distinct", json_of(report.distinct)},
          {"han_occurrences", json_of(report.occurrences)},
          {"long_chars", report.long_chars},
          {"long_tokens", report.long_tokens},
          {"longest", report.longest}};
}

}  // namespace dujiang::launch
