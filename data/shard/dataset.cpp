#include "data/shard/dataset.h"

#include <unistd.h>
#include <xxhash.h>

#include <algorithm>

#include "framework/base/check.h"

namespace dujiang::data {
namespace {

template <class T>
void expect(const std::filesystem::path& path, const char* what, const T& found, const T& expected) {
  if (!(found == expected)) fail_user("{}: {} is '{}', the manifest says '{}'", path.string(), what, found, expected);
}

/// A shard that agrees with its row of the manifest.
std::unique_ptr<ShardReader> open_shard(const std::filesystem::path& folder, const Manifest& manifest,
                                        const ShardSummary& row, ReadOptions options) {
  const auto path = folder / row.file;
  std::error_code error;
  const auto bytes = static_cast<std::int64_t>(std::filesystem::file_size(path, error));
  if (error) fail_user("{}: cannot be opened: {}; the manifest lists it", path.string(), error.message());
  if (bytes != row.bytes)
    fail_user("{}: has {} bytes, the manifest says {}: {}", path.string(), bytes, row.bytes,
              bytes < row.bytes ? "truncated" : "not the file that was written");
  auto shard = std::make_unique<ShardReader>(path, options);
  expect(path, "split", shard->split(), row.split);
  expect(path, "documents", shard->documents(), row.documents);
  expect(path, "tokens", shard->tokens(), row.tokens);
  expect(path, "vocab_size", shard->info().vocab_size, manifest.info.vocab_size);
  expect(path, "tokenizer_sha256", shard->info().tokenizer_sha256, manifest.info.tokenizer_sha256);
  return shard;
}

}  // namespace

Dataset::Dataset(const std::filesystem::path& folder, const std::string& split, ReadOptions options)
    : folder_(folder), split_(split), first_document_{0} {
  const Manifest manifest = read_manifest(folder);
  info_ = manifest.info;
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> identity(XXH3_createState(), XXH3_freeState);
  XXH3_64bits_reset(identity.get());
  const auto identify = [&](const std::string& text) {
    XXH3_64bits_update(identity.get(), text.data(), text.size());
    fingerprints_.push_back(fmt::format("{:016x}", XXH3_64bits_digest(identity.get())));
  };
  identify(fmt::format("{} {} {}", shard_format_version, info_.vocab_size, info_.tokenizer_sha256));
  const std::int64_t memory = std::int64_t{::sysconf(_SC_PHYS_PAGES)} * ::sysconf(_SC_PAGESIZE);
  std::int64_t bytes = 0;
  for (const auto& row : manifest.shards) bytes += row.split == split ? row.bytes : 0;
  options.read_ahead &= bytes <= memory / 2;
  for (const auto& row : manifest.shards) {
    if (row.split != split) continue;
    shards_.push_back(open_shard(folder, manifest, row, options));
    first_document_.push_back(first_document_.back() + row.documents);
    tokens_ += row.tokens;
    identify(fmt::format(" {} {} {:016x}", row.documents, row.tokens, row.xxh3));
    has_loss_weights_ |= shards_.back()->has_loss_weights();
    if (has_labels() != shards_.back()->has_labels())
      fail_user("{}: {} labels, unlike {}: all documents of a split have them or none", shards_.back()->path().string(),
                has_labels() ? "lacks" : "has", shards_[0]->path().string());
  }
  if (shards_.empty())
    fail_user("{}: has no split '{}', only: {}", folder.string(), split, fmt::join(manifest.splits(), ", "));
}

Dataset::Place Dataset::locate(std::int64_t document) const {
  DUJIANG_CHECK(document >= 0 && document < documents(), "{}: document {} asked for, split '{}' holds {}",
                folder_.string(), document, split_, documents());
  const auto next = std::ranges::upper_bound(first_document_, document);
  const auto index = static_cast<std::size_t>(next - first_document_.begin() - 1);
  const ShardReader& shard = *shards_[index];
  const auto local = static_cast<std::size_t>(document - first_document_[index]);
  const auto start = shard.doc_offsets()[local], end = shard.doc_offsets()[local + 1];
  if (start > end || end > static_cast<std::uint64_t>(shard.tokens()))
    fail_user("{}: /doc_offsets of document {} are {} and {}, of {} tokens: the file was altered or damaged",
              shard.path().string(), local, start, end, shard.tokens());
  return {&shard, static_cast<std::int64_t>(start), static_cast<std::int64_t>(end - start),
          static_cast<std::int64_t>(local)};
}

VerifyReport verify(const std::filesystem::path& folder) {
  const Manifest manifest = read_manifest(folder);
  VerifyReport report;
  for (const auto& row : manifest.shards) {
    const auto shard = open_shard(folder, manifest, row, {});
    shard->verify();
    for (const auto& source : shard->info().sources)
      if (std::ranges::find(manifest.info.sources, source) == manifest.info.sources.end())
        fail_user("{}: its source '{}' is not among those of the manifest", shard->path().string(), source.name);
    if (hash_file(shard->path()) != row.xxh3)
      fail_user("{}: does not match its checksum, outside its tokens: the file was altered or damaged",
                shard->path().string());
    ++report.files;
    report.documents += row.documents;
    report.tokens += row.tokens;
    report.bytes += row.bytes;
  }
  return report;
}

}  // namespace dujiang::data
