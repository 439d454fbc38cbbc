#include "data/corpus/filter/contamination.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "data/text/char_class.h"
#include "data/text/utf8.h"
#include "framework/base/check.h"

namespace dujiang::data {
namespace {

constexpr std::uint64_t base = 0x9E3779B97F4A7C15ull;

constexpr std::uint64_t spread(std::uint64_t value) {
  return (value + 1) * 0xD6E8FEB86659FD93ull;
}

// A letter's or digit's value, without case (of ASCII) and width; 0 for anything else.
std::uint64_t value_of(const CharClasses& classes, char32_t c) {
  static constexpr auto ascii = [] {
    std::array<std::uint64_t, 128> table{};
    for (std::size_t c = 0; c < 128; ++c) {
      const bool upper = c >= 'A' && c <= 'Z', lower = c >= 'a' && c <= 'z', digit = c >= '0' && c <= '9';
      if (upper || lower || digit) table[c] = spread(upper ? c + 32 : c);
    }
    return table;
  }();
  if (c >= 0xFF01 && c <= 0xFF5E) c -= 0xFEE0;
  if (c < 128) return ascii[c];
  return classes[c] & (CharClass::letter | CharClass::word) ? spread(c) : 0;
}

std::uint64_t mixed(std::uint64_t hash) {
  hash ^= hash >> 32;
  hash *= 0xD6E8FEB86659FD93ull;
  return hash ^ hash >> 32;
}

}  // namespace

// found(hash) for each n-gram, by a polynomial that rolls over the values of the last n letters and digits.
template <class Found>
void ContaminationIndex::n_grams(std::string_view text, Found&& found) const {
  const auto& classes = CharClasses::get();
  thread_local std::vector<std::uint64_t> ring;
  ring.assign(n_, 0);
  std::uint64_t leaving = 1;  // base^n
  for (std::size_t i = 0; i < n_; ++i) leaving *= base;
  std::uint64_t hash = 0;
  std::size_t count = 0, at = 0;
  for (std::size_t pos = 0; pos < text.size();) {
    const std::uint64_t value = value_of(classes, next_char(text, pos));
    if (value == 0) continue;
    hash = hash * base + value - ring[at] * leaving;
    ring[at] = value;
    at = at + 1 == n_ ? 0 : at + 1;
    if (++count >= n_) found(mixed(hash));
  }
}

ContaminationIndex::ContaminationIndex(const ContaminationConfig& config, const Clean& clean)
    : n_(static_cast<std::size_t>(config.n)) {
  if (config.n < 2 || config.n > 1000) fail_user("contamination: n must lie in [2, 1000], found {}", config.n);
  if (config.max_items < 1) fail_user("contamination: max_items must be at least 1, found {}", config.max_items);
  if (!(config.max_share >= 0 && config.max_share <= 1)) {
    fail_user("contamination: max_share must lie in [0, 1], found {}", config.max_share);
  }
  std::vector<std::pair<std::uint64_t, std::uint32_t>> grams;
  for (const auto& evaluation : config.evaluations) add(evaluation, clean, grams);
  build(std::move(grams), config.max_items);
}

void ContaminationIndex::add(const EvaluationConfig& config, const Clean& clean,
                             std::vector<std::pair<std::uint64_t, std::uint32_t>>& grams) {
  const std::string& path = config.file;
  const bool json = path.ends_with(".jsonl") || path.ends_with(".ndjson");
  std::ifstream file(path, std::ios::binary);
  if (!file) fail_user("{}: can't be read: {}", path, std::strerror(errno));
  const auto index = static_cast<std::uint32_t>(files_.size());
  files_.push_back({path});
  simdjson::ondemand::parser parser;
  std::string line, text;
  std::uint32_t number = 0;
  while (std::getline(file, line)) {
    ++number;
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    if (utf8_valid_prefix(line) != line.size()) fail_user("{}: line {} isn't UTF-8", path, number);
    if (json) {
      text.clear();
      for (const auto& field : config.fields) {
        line.reserve(line.size() + simdjson::SIMDJSON_PADDING);
        simdjson::ondemand::document document;
        std::string_view value;
        if (parser.iterate(line).get(document) != simdjson::SUCCESS) fail_user("{}: line {} isn't JSON", path, number);
        const auto error = document.find_field_unordered(field).get_string().get(value);
        if (error == simdjson::NO_SUCH_FIELD) continue;
        if (error != simdjson::SUCCESS) {
          fail_user("{}: line {}: \"{}\" isn't a string of an object: {}", path, number, field,
                    simdjson::error_message(error));
        }
        text.append(value).append("\n");
      }
      if (text.empty())
        fail_user("{}: line {} has none of the fields {}", path, number, fmt::join(config.fields, ", "));
    } else {
      text = line;
    }
    if (clean) text = clean(std::move(text));
    const auto item = static_cast<std::uint32_t>(items_.size());
    const std::size_t before = grams.size();
    n_grams(text, [&](std::uint64_t hash) { grams.emplace_back(hash, item); });
    ++files_[index].items;
    files_[index].too_short += grams.size() == before;
    items_.push_back({index, number, 0});
  }
  if (file.bad()) fail_user("{}: reading failed: {}", path, std::strerror(errno));
  if (files_[index].items == files_[index].too_short) {
    fail_user("{}: none of its {} items has {} letters and digits: nothing could be found", path, files_[index].items,
              n_);
  }
}

void ContaminationIndex::build(std::vector<std::pair<std::uint64_t, std::uint32_t>> grams, int max_items) {
  std::sort(grams.begin(), grams.end());
  grams.erase(std::unique(grams.begin(), grams.end()), grams.end());
  DUJIANG_CHECK(grams.size() < ~0u, "contamination: {} n-grams are too many", grams.size());
  slots_.resize(std::bit_ceil(grams.size() * 2 + 2));
  bits_.resize(std::bit_ceil(grams.size() / 4 + 1));
  for (std::size_t i = 0; i < grams.size();) {
    std::size_t end = i;
    while (end < grams.size() && grams[end].first == grams[i].first) ++end;
    if (end - i <= static_cast<std::size_t>(max_items)) {
      const std::uint64_t hash = grams[i].first;
      std::size_t slot = hash & (slots_.size() - 1);
      while (slots_[slot].begin != slots_[slot].end) slot = (slot + 1) & (slots_.size() - 1);
      slots_[slot] = {hash, static_cast<std::uint32_t>(postings_.size()),
                      static_cast<std::uint32_t>(postings_.size() + end - i)};
      bits_[hash >> 38 & (bits_.size() - 1)] |= 1ull << (hash >> 32 & 63);
      for (; i < end; ++i) {
        postings_.push_back(grams[i].second);
        ++items_[grams[i].second].n_grams;
      }
    }
    i = end;
  }
}

std::vector<ContaminationIndex::Met> ContaminationIndex::find(std::string_view text) const {
  thread_local std::vector<std::uint64_t> seen;
  seen.clear();
  n_grams(text, [&](std::uint64_t hash) {
    if (bits_[hash >> 38 & (bits_.size() - 1)] >> (hash >> 32 & 63) & 1) seen.push_back(hash);
  });
  if (seen.empty()) return {};
  std::sort(seen.begin(), seen.end());
  seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
  std::vector<std::uint32_t> items;
  for (const std::uint64_t hash : seen) {
    for (std::size_t slot = hash & (slots_.size() - 1); slots_[slot].begin != slots_[slot].end;
         slot = (slot + 1) & (slots_.size() - 1)) {
      if (slots_[slot].hash != hash) continue;
      items.insert(items.end(), postings_.begin() + slots_[slot].begin, postings_.begin() + slots_[slot].end);
      break;
    }
  }
  std::sort(items.begin(), items.end());
  std::vector<Met> met;
  for (std::size_t i = 0; i < items.size();) {
    std::size_t end = i;
    while (end < items.size() && items[end] == items[i]) ++end;
    const Item& item = items_[items[i]];
    met.push_back({item.file, item.line, static_cast<std::uint32_t>(end - i), item.n_grams});
    i = end;
  }
  std::stable_sort(met.begin(), met.end(), [](const Met& a, const Met& b) {
    return std::uint64_t{a.matched} * b.n_grams > std::uint64_t{b.matched} * a.n_grams;
  });
  return met;
}

std::vector<EvaluationFile> ContaminationFilter::files() const {
  auto files = indexes_.front()->files();
  for (const auto& index : indexes_)
    for (std::size_t i = 0; i < files.size(); ++i)
      files[i].too_short = std::max(files[i].too_short, index->files()[i].too_short);
  return files;
}

std::optional<Rejection> ContaminationFilter::apply(TextDocument& document, Tally& tally) const {
  constexpr std::size_t most_named = 10;
  const ContaminationIndex& index = *indexes_.at(document.source);
  const auto met = index.find(document.text);
  if (met.empty()) return std::nullopt;
  for (const auto& item : met) tally.met(index.files()[item.file].file, item.item);
  const double share = static_cast<double>(met[0].matched) / met[0].n_grams;
  if (share <= max_share_) {
    tally.took("contaminated", static_cast<std::int64_t>(met.size()), 0);
    return std::nullopt;
  }
  std::string detail;
  for (std::size_t i = 0; i < std::min(met.size(), most_named); ++i) {
    const auto& [file, item, matched, n_grams] = met[i];
    detail += fmt::format("{}{} line {}: {} of {} n-grams", i == 0 ? "" : "; ", index.files()[file].file, item, matched,
                          n_grams);
  }
  return Rejection{"contaminated", share, max_share_, std::move(detail)};
}

}  // namespace dujiang::data
