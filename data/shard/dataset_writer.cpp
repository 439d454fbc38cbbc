#include "data/shard/dataset_writer.h"

#include <algorithm>
#include <regex>

#include "framework/base/check.h"

namespace dujiang::data {

DatasetWriter::DatasetWriter(std::filesystem::path folder, DatasetInfo info, std::int64_t shard_tokens)
    : folder_(std::move(folder)), info_(std::move(info)), shard_tokens_(shard_tokens) {
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  if (!std::filesystem::is_directory(folder_)) fail_user("{}: cannot create this folder", folder_.string());
  if (std::filesystem::exists(folder_ / "manifest.json"))
    fail_user("{}: holds a dataset already; remove the folder or name another", folder_.string());
  const std::regex shard_name("[a-z0-9_]+-[0-9]{5}\\.h5(\\.tmp)?");
  std::vector<std::filesystem::path> left;
  for (const auto& entry : std::filesystem::directory_iterator(folder_))
    if (std::regex_match(entry.path().filename().string(), shard_name)) left.push_back(entry.path());
  for (const auto& path : left) std::filesystem::remove(path);
}

void DatasetWriter::add(const std::string& split, const Document& document) {
  auto found = open_.find(split);
  // Only a document with tokens begins a shard, since a shard must hold some.
  if (found != open_.end() && found->second.tokens() >= shard_tokens_ && !document.tokens.empty()) {
    shards_.push_back(found->second.finish());
    open_.erase(found);
    found = open_.end();
  }
  if (found == open_.end()) {
    const bool good = !split.empty() && std::ranges::all_of(split, [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
    });
    if (!good) fail_user("{}: split '{}': use lower-case letters, digits and '_'", folder_.string(), split);
    const auto path = folder_ / fmt::format("{}-{:05}.h5", split, started_[split]++);
    found = open_.emplace(split, ShardWriter(path, split, info_)).first;
  }
  found->second.add(document);
}

Manifest DatasetWriter::finish() {
  for (auto& [split, writer] : open_) shards_.push_back(writer.finish());
  open_.clear();
  if (shards_.empty()) fail_user("{}: no documents, so no dataset", folder_.string());
  std::ranges::sort(
      shards_, [](const auto& a, const auto& b) { return std::pair(a.split, a.file) < std::pair(b.split, b.file); });
  Manifest manifest{info_, std::move(shards_)};
  write_manifest(folder_, manifest);
  return manifest;
}

}  // namespace dujiang::data
