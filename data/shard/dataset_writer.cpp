#include "data/shard/dataset_writer.h"

#include <algorithm>
#include <string_view>
#include <tuple>

#include "framework/base/check.h"

namespace dujiang::data {
namespace {

bool is_split_name(std::string_view name) {
  return !name.empty() &&
         std::ranges::all_of(name, [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; });
}

/// SPLIT-00000.h5 or SPLIT-00000.h5.tmp
bool is_shard_name(std::string_view name) {
  if (name.ends_with(".tmp")) name.remove_suffix(4);
  if (!name.ends_with(".h5")) return false;
  name.remove_suffix(3);
  const auto dash = name.rfind('-');
  return dash != name.npos && is_split_name(name.substr(0, dash)) && name.size() >= dash + 6 &&
         std::ranges::all_of(name.substr(dash + 1), [](char c) { return c >= '0' && c <= '9'; });
}

/// Those of a call that was cut short.
void remove_unlisted_shards(const std::filesystem::path& folder, const Manifest& manifest) {
  std::vector<std::filesystem::path> left;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (is_shard_name(name) && std::ranges::find(manifest.shards, name, &ShardSummary::file) == manifest.shards.end())
      left.push_back(entry.path());
  }
  for (const auto& path : left) std::filesystem::remove(path);
}

}  // namespace

DatasetWriter::DatasetWriter(std::filesystem::path folder, DatasetInfo info, std::int64_t shard_tokens)
    : DatasetWriter(folder, info, shard_tokens, Manifest{info, {}}) {
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  if (!std::filesystem::is_directory(folder_)) fail_user("{}: cannot create this folder", folder_.string());
  if (std::filesystem::exists(folder_ / "manifest.json"))
    fail_user("{}: holds a dataset already; remove the folder or name another", folder_.string());
  remove_unlisted_shards(folder_, before_);
}

DatasetWriter DatasetWriter::append(const std::filesystem::path& folder, DatasetInfo info, std::int64_t shard_tokens) {
  const Manifest before = extended(read_manifest(folder), info, {});  // refuses other tokenizers right away
  remove_unlisted_shards(folder, before);
  return {folder, std::move(info), shard_tokens, before};
}

DatasetWriter::DatasetWriter(std::filesystem::path folder, DatasetInfo info, std::int64_t shard_tokens, Manifest before)
    : folder_(std::move(folder)), info_(std::move(info)), shard_tokens_(shard_tokens), before_(std::move(before)) {
  for (const auto& split : before_.splits()) started_[split] = before_.next_number(split);
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
    if (!is_split_name(split))
      fail_user("{}: split '{}': use lower-case letters, digits and '_'", folder_.string(), split);
    const auto path = folder_ / shard_name(split, started_[split]++);
    found = open_.emplace(split, ShardWriter(path, split, info_, shard_tokens_)).first;
  }
  found->second.add(document);
}

Manifest DatasetWriter::finish() {
  for (auto& [split, writer] : open_) shards_.push_back(writer.finish());
  open_.clear();
  if (shards_.empty()) fail_user("{}: no documents, so no dataset", folder_.string());
  std::ranges::sort(shards_, {}, [](const auto& s) { return std::tuple(s.split, s.file.size(), s.file); });
  Manifest manifest = extended(std::move(before_), info_, std::move(shards_));
  write_manifest(folder_, manifest);
  return manifest;
}

}  // namespace dujiang::data
