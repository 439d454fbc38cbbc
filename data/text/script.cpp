#include "data/text/script.h"

#include <algorithm>
#include <array>
#include <exception>
#include <opencc/DictEntry.hpp>
#include <opencc/Lexicon.hpp>
#include <opencc/MarisaDict.hpp>
#include <opencc/SerializableDict.hpp>
#include <opencc/SimpleConverter.hpp>
#include <vector>

#include "data/text/utf8.h"
#include "framework/base/check.h"

namespace dujiang::data {
namespace {

constexpr std::size_t planes_end = 0x40000;  // no Han beyond

// By code point: 1 written so in simplified text only, 2 in traditional only, 0 in both or no Han.
using Table = std::vector<std::uint8_t>;

// Marks the characters that the dictionary changes whatever their sense.
void mark(Table& table, const std::string& dictionary, std::uint8_t bit) {
  const std::string path = OPENCC_DATA + dictionary;
  try {
    const auto dict = opencc::SerializableDict::NewFromFile<opencc::MarisaDict>(path);
    for (const auto& entry : *dict->GetLexicon()) {
      const std::string key = entry->Key();
      const std::vector<std::string> values = entry->Values();
      std::size_t pos = 0;
      const char32_t c = next_char(key, pos);
      const bool stays = std::find(values.begin(), values.end(), key) != values.end();
      if (pos == key.size() && c < planes_end && !stays) table[c] |= bit;
    }
  } catch (const std::exception& error) {
    fail_user("{}: OpenCC's dictionary can't be read ({}): install OpenCC's data", path, error.what());
  }
}

Table make_table() {
  Table table(planes_end, 0);
  mark(table, "STCharacters.ocd2", 1);
  mark(table, "TSCharacters.ocd2", 2);
  std::replace(table.begin(), table.end(), std::uint8_t{3}, std::uint8_t{0});
  return table;
}

}  // namespace

Script ScriptCounts::script() const {
  if (simplified > 2 * traditional) return Script::simplified;
  if (traditional > 2 * simplified) return Script::traditional;
  return Script::none;
}

ScriptCounts count_script(std::string_view text) {
  static const Table table = make_table();
  std::array<std::size_t, 4> counts{};
  for (std::size_t pos = 0; pos < text.size();) {
    if (static_cast<unsigned char>(text[pos]) < 0xE3) {  // no Han begins with these
      ++pos;
      continue;
    }
    const char32_t c = next_char(text, pos);
    if (c < planes_end) ++counts[table[c]];
  }
  return {counts[1], counts[2]};
}

struct Simplifier::Converter {
  explicit Converter(const std::string& config) : converter(config) {}
  opencc::SimpleConverter converter;
};

Simplifier::Simplifier(const std::string& config) {
  constexpr std::string_view configs[] = {"t2s", "tw2s", "tw2sp", "hk2s"};
  if (std::find(std::begin(configs), std::end(configs), config) == std::end(configs))
    fail_user("simplify is one of {}, found \"{}\"", fmt::join(configs, ", "), config);
  try {
    converter_ = std::make_unique<Converter>(config + ".json");
  } catch (const std::exception& error) {
    fail_user("OpenCC's {}.json can't be loaded ({}): install OpenCC's data", config, error.what());
  }
}

Simplifier::~Simplifier() = default;

std::string Simplifier::operator()(std::string_view text) const {
  return converter_->converter.Convert(text.data(), text.size());
}

}  // namespace dujiang::data
