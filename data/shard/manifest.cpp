#include "data/shard/manifest.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "framework/base/check.h"
#include "framework/base/files.h"

namespace dujiang::data {
namespace {

constexpr const char* format_name = "dujiang-dataset";

std::int64_t sum(const Manifest& manifest, const std::string& split, std::int64_t ShardSummary::*field) {
  std::int64_t total = 0;
  for (const auto& shard : manifest.shards)
    if (shard.split == split) total += shard.*field;
  return total;
}

}  // namespace

std::int64_t Manifest::documents(const std::string& split) const {
  return sum(*this, split, &ShardSummary::documents);
}
std::int64_t Manifest::tokens(const std::string& split) const {
  return sum(*this, split, &ShardSummary::tokens);
}

std::int64_t Manifest::shard_count(const std::string& split) const {
  return std::ranges::count(shards, split, &ShardSummary::split);
}
std::int64_t Manifest::next_number(const std::string& split) const {
  std::int64_t next = 0;
  for (const auto& shard : shards) {
    if (shard.split != split || !shard.file.starts_with(split + "-")) continue;
    std::int64_t number = -1;
    std::from_chars(shard.file.data() + split.size() + 1, shard.file.data() + shard.file.size(), number);
    next = std::max(next, number + 1);
  }
  return next;
}

std::vector<std::string> Manifest::splits() const {
  std::set<std::string> names;
  for (const auto& shard : shards) names.insert(shard.split);
  return {names.begin(), names.end()};
}

void write_manifest(const std::filesystem::path& folder, const Manifest& manifest) {
  nlohmann::ordered_json json;
  json["format"] = format_name;
  json["version"] = shard_format_version;
  json["vocab_size"] = manifest.info.vocab_size;
  json["tokenizer_sha256"] = manifest.info.tokenizer_sha256;
  for (const auto& split : manifest.splits())
    json["splits"][split] = {{"documents", manifest.documents(split)}, {"tokens", manifest.tokens(split)}};
  json["shards"] = manifest.shards;
  json["sources"] = nlohmann::json::array();
  for (const auto& s : manifest.info.sources)
    json["sources"].push_back({{"name", s.name}, {"licence", s.licence}, {"sha256", s.sha256}});
  json["pipeline"] = nlohmann::ordered_json::parse(manifest.info.pipeline);
  const std::string text = json.dump(2) + "\n";
  sync_directory(folder);  // the shards' names last before the list of them does
  write_file(folder / "manifest.json", text);
}

void to_json(nlohmann::ordered_json& json, const ShardSummary& s) {
  json = {{"file", s.file},     {"split", s.split}, {"documents", s.documents},
          {"tokens", s.tokens}, {"bytes", s.bytes}, {"xxh3", fmt::format("{:016x}", s.xxh3)}};
}

void from_json(const nlohmann::ordered_json& json, ShardSummary& s) {
  const std::string digits = json.at("xxh3");
  s = {json.at("file"), json.at("split"), json.at("documents"), json.at("tokens"), json.at("bytes"), 0};
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), s.xxh3, 16);
  if (error != std::errc{} || end != digits.data() + digits.size() || digits.empty())
    fail_user("shard {}: xxh3 \"{}\" is not a hexadecimal number", s.file, digits);
}

Manifest extended(Manifest manifest, const DatasetInfo& info, std::vector<ShardSummary> added) {
  if (info.vocab_size != manifest.info.vocab_size || info.tokenizer_sha256 != manifest.info.tokenizer_sha256)
    fail_user("a dataset made with tokenizer {} of {} tokens cannot grow by shards made with tokenizer {} of {} tokens",
              manifest.info.tokenizer_sha256, manifest.info.vocab_size, info.tokenizer_sha256, info.vocab_size);
  for (const auto& source : info.sources)
    if (std::ranges::find(manifest.info.sources, source) == manifest.info.sources.end())
      manifest.info.sources.push_back(source);
  for (auto& shard : added) {
    if (std::ranges::find(manifest.shards, shard.file, &ShardSummary::file) != manifest.shards.end())
      fail_user("the dataset holds a shard named {} already", shard.file);
    manifest.shards.push_back(std::move(shard));
  }
  std::ranges::stable_sort(manifest.shards, {}, &ShardSummary::split);
  return manifest;
}

Manifest read_manifest(const std::filesystem::path& folder) {
  const auto path = folder / "manifest.json";
  std::ifstream in(path, std::ios::binary);
  if (!in) fail_user("{}: no dataset here: {} cannot be opened", folder.string(), path.string());
  try {
    const auto json = nlohmann::ordered_json::parse(in);
    if (json.at("format") != format_name)
      fail_user("{}: format is {}, expected \"{}\"", path.string(), json.at("format").dump(), format_name);
    if (json.at("version") != shard_format_version)
      fail_user("{}: version is {}, this program reads {}", path.string(), json.at("version").dump(),
                shard_format_version);
    Manifest manifest;
    manifest.info = {json.at("vocab_size"), json.at("tokenizer_sha256"), json.at("pipeline").dump(), {}};
    for (const auto& s : json.at("sources"))
      manifest.info.sources.push_back({s.at("name"), s.at("licence"), s.at("sha256")});
    for (const auto& s : json.at("shards")) {
      auto shard = s.get<ShardSummary>();
      if (std::filesystem::path(shard.file).filename() != shard.file)
        fail_user("{}: file \"{}\" is not a plain file name", path.string(), shard.file);
      manifest.shards.push_back(std::move(shard));
    }
    for (const auto& [split, totals] : json.at("splits").items())
      if (totals.at("documents") != manifest.documents(split) || totals.at("tokens") != manifest.tokens(split))
        fail_user("{}: the totals of split '{}' are {}, but its shards hold {} documents and {} tokens", path.string(),
                  split, totals.dump(), manifest.documents(split), manifest.tokens(split));
    return manifest;
  } catch (const nlohmann::json::exception& e) {
    fail_user("{}: not a dataset's manifest: {}", path.string(), e.what());
  }
}

}  // namespace dujiang::data
