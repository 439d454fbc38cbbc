#include "data/shard/manifest.h"

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
  for (const auto& s : manifest.shards)
    json["shards"].push_back({{"file", s.file},
                              {"split", s.split},
                              {"documents", s.documents},
                              {"tokens", s.tokens},
                              {"bytes", s.bytes},
                              {"xxh3", fmt::format("{:016x}", s.xxh3)}});
  json["sources"] = nlohmann::json::array();
  for (const auto& s : manifest.info.sources)
    json["sources"].push_back({{"name", s.name}, {"licence", s.licence}, {"sha256", s.sha256}});
  json["pipeline"] = nlohmann::ordered_json::parse(manifest.info.pipeline);
  const std::string text = json.dump(2) + "\n";
  write_file(folder / "manifest.json", text);
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
      ShardSummary shard{s.at("file"), s.at("split"), s.at("documents"), s.at("tokens"), s.at("bytes"), 0};
      const std::string digits = s.at("xxh3");
      std::size_t used = 0;
      shard.xxh3 = std::stoull(digits, &used, 16);
      if (used != digits.size() || std::filesystem::path(shard.file).filename() != shard.file)
        fail_user("{}: file \"{}\", xxh3 \"{}\": not a plain file name and a hexadecimal number", path.string(),
                  shard.file, digits);
      manifest.shards.push_back(std::move(shard));
    }
    for (const auto& [split, totals] : json.at("splits").items())
      if (totals.at("documents") != manifest.documents(split) || totals.at("tokens") != manifest.tokens(split))
        fail_user("{}: the totals of split '{}' are {}, but its shards hold {} documents and {} tokens", path.string(),
                  split, totals.dump(), manifest.documents(split), manifest.tokens(split));
    return manifest;
  } catch (const Error&) {
    throw;
  } catch (const std::exception& e) {  // from nlohmann::json or std::stoull
    fail_user("{}: not a dataset's manifest: {}", path.string(), e.what());
  }
}

}  // namespace dujiang::data
