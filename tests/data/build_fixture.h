#pragma once
// Builds by any number of processes and threads, and what came of them.

#include <atomic>
#include <barrier>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "data/corpus/filter/document_filter.h"
#include "data/corpus/filter/line_filter.h"
#include "data/corpus/pipeline/corpus_build.h"
#include "data/corpus/pipeline/shards.h"
#include "data/shard/dataset.h"
#include "data/text/sha256.h"
#include "data/tokenizer/train.h"
#include "framework/base/threads.h"
#include "tests/data/build_corpus.h"

namespace dujiang::data {

/// Lets `passes` documents pass, then throws at each.
class Stumble : public Step {
 public:
  explicit Stumble(int passes) : left_(passes) {}
  std::string_view name() const override { return "stumble"; }
  std::optional<Rejection> apply(TextDocument&, Tally&) const override {
    if (left_-- <= 0) fail("cut short");
    return std::nullopt;
  }

 private:
  mutable std::atomic<int> left_;
};

inline constexpr int never = std::numeric_limits<int>::max();

/// Sources are `folders`, each with all its files. Texts of fewer than 20 characters go.
inline BuildConfig build_config(const std::vector<fs::path>& folders, int passes = never) {
  FilterProfile profile = unfiltered();
  profile.lines.boilerplate = true;
  profile.lines.phrases = {phrase};
  profile.document.min_chars = 20;
  const std::vector<FilterProfile> profiles(folders.size(), profile);
  BuildConfig config;
  const auto extract = std::make_shared<const Extractor>(ExtractConfig{});
  for (const fs::path& folder : folders) {
    ReadConfig read;
    read.separator = "====";
    config.sources.push_back({folder.filename().string(), {(folder / "*").string()}, read, extract, 20});
  }
  std::vector<std::unique_ptr<Step>> steps;
  steps.push_back(std::make_unique<LineFilter>(profiles));
  steps.push_back(std::make_unique<DocumentFilter>(profiles));
  steps.push_back(std::make_unique<Stumble>(passes));
  config.steps = std::make_shared<const StepChain>(std::move(steps));
  config.repeated_lines = LineConfig{.min_chars = 10, .max_documents = 3, .keep_first = true};
  config.held_out_share = 0.3;
  config.piece_bytes = 2048;
  config.identity = "settings\n";
  return config;
}

/// Hardly more than bytes and an end token: quick to make.
inline const Tokenizer& small_tokenizer() {
  static const std::unique_ptr<Tokenizer> tokenizer = [] {
    const TempFolder folder;
    int left = 1;
    const auto next = [&](TrainingDocument& document) {
      Dice dice(3);
      const std::string text = utf8(random_characters(dice, 60));
      document.text = text + "。" + text;
      return left-- > 0;
    };
    train_tokenizer({.vocab_size = 300}, {{.name = "all"}}, next, folder / "t");
    return load_tokenizer(folder / "t");
  }();
  return *tokenizer;
}

struct BuildRun {
  int processes = 1, threads = 1;
  Say say = [](const std::string&) {};
};

struct BuildResult {
  ChoiceReport choice;
  ShardReport shards;
};

inline DatasetInfo info_of(const CorpusBuild& build) {
  DatasetInfo info{small_tokenizer().vocab_size(), small_tokenizer().sha256(), "{}", {}};
  for (std::size_t s = 0; s < build.config().sources.size(); ++s)
    info.sources.push_back({build.config().sources[s].name, "CC0", build.source_digest(s)});
  return info;
}

inline BuildResult finish_build(CorpusBuild& build, std::int64_t shard_tokens = 5000) {
  build.choose();
  BuildResult result;
  result.choice = build.report();
  result.shards = write_dataset(build, small_tokenizer(), info_of(build), {.shard_tokens = shard_tokens});
  return result;
}

/// A whole build by so many "processes", each a thread with a CorpusBuild of its own. Throws what one of them threw.
inline BuildResult run_build(const BuildConfig& config, const fs::path& folder, const BuildRun& how = {}) {
  std::barrier meeting(how.processes);
  std::vector<std::exception_ptr> failures(static_cast<std::size_t>(how.processes));
  BuildResult result;
  {
    std::vector<std::jthread> processes;
    for (int rank = 0; rank < how.processes; ++rank)
      processes.emplace_back([&, rank] {
        set_thread_count(how.threads);
        try {
          CorpusBuild build(config, folder, {rank, how.processes, [&] { meeting.arrive_and_wait(); }}, how.say);
          auto done = finish_build(build);
          if (rank == 0) result = std::move(done);
        } catch (...) {
          failures[static_cast<std::size_t>(rank)] = std::current_exception();
        }
        meeting.arrive_and_drop();
      });
  }
  for (const auto& failure : failures)
    if (failure) std::rethrow_exception(failure);
  return result;
}

inline std::string bytes_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// The bytes of each file of a dataset, by name.
inline std::map<std::string, std::string> files_of(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_regular_file()) files[entry.path().filename().string()] = bytes_of(entry.path());
  return files;
}

/// Names of the files that differ.
inline std::string differences(const std::map<std::string, std::string>& a,
                               const std::map<std::string, std::string>& b) {
  std::set<std::string> names;
  for (const auto& [name, bytes] : a)
    if (const auto found = b.find(name); found == b.end() || found->second != bytes) names.insert(name);
  for (const auto& [name, bytes] : b)
    if (!a.contains(name)) names.insert(name);
  std::string out;
  for (const auto& name : names) out += name + " ";
  return out;
}

/// Where a raw document is: file and offset.
using Where = std::pair<std::string, std::uint64_t>;

/// The raw documents of a config's files with their bytes, by source.
inline std::vector<std::map<Where, std::int64_t>> raw_documents(const BuildConfig& config) {
  std::vector<std::map<Where, std::int64_t>> all;
  for (const BuildSource& source : config.sources) {
    all.emplace_back();
    std::vector<FileFault> faults;
    for (const auto& path : list_files(source.name, source.files, faults)) {
      DocumentReader reader(path, source.read);
      for (RawDocument document; reader.next(document);)
        all.back()[{path, document.offset}] = static_cast<std::int64_t>(document.raw_bytes);
    }
  }
  return all;
}

inline std::vector<json> rejects_of(const fs::path& folder) {
  std::vector<json> all;
  DocumentReader reader(folder / "rejects.jsonl.zst", {});
  for (RawDocument line; reader.next(line);) all.push_back(json::parse(line.bytes));
  DUJIANG_CHECK(!reader.fault(), "{}", reader.fault()->message);
  return all;
}

/// A document in a shard.
struct Shelved {
  std::string text, split;
  Where where;
  std::uint32_t source;
  std::uint64_t cluster;
};

inline std::vector<Shelved> shelved(const fs::path& folder) {
  std::vector<Shelved> all;
  for (const std::string& split : read_manifest(folder).splits()) {
    const Dataset dataset(folder, split);
    for (std::int64_t d = 0; d < dataset.documents(); ++d) {
      const auto place = dataset.locate(d);
      std::vector<std::int32_t> tokens(static_cast<std::size_t>(place.tokens));
      place.shard->read(place.start, place.tokens, tokens.data());
      DUJIANG_CHECK(tokens.back() == small_tokenizer().eos_id(), "document {} has no end", d);
      tokens.pop_back();
      const auto row = static_cast<std::size_t>(place.document);
      all.push_back(
          {small_tokenizer().decode(tokens),
           split,
           {std::string(place.shard->files()[place.shard->doc_files()[row]]), place.shard->doc_raw_offsets()[row]},
           place.shard->doc_sources()[row],
           place.shard->doc_clusters()[row]});
    }
  }
  return all;
}

/// As held_out.txt has them.
inline std::string joined_texts(const fs::path& folder, const std::string& split) {
  std::string out;
  for (const Shelved& document : shelved(folder))
    if (document.split == split)
      out += (out.empty() ? "" : "\n") + document.text + (document.text.ends_with('\n') ? "" : "\n");
  return out;
}

/// sha256sum FOLDER/* | sha256sum
inline std::string digest_of(const fs::path& folder) {
  std::string lines;
  for (const auto& path : std::set<fs::path>(fs::directory_iterator(folder), {}))
    lines += sha256_file(path) + "  " + path.string() + "\n";
  Sha256 all;
  all.update(lines);
  return all.hex();
}

/// The split of each family's document. Error when a family has two.
inline std::map<std::size_t, std::string> sides(const fs::path& folder, const Families& families) {
  std::map<std::size_t, std::string> sides;
  for (const Shelved& document : shelved(folder))
    if (const auto family = families.family().find(document.text.substr(0, document.text.find('\n')));
        family != families.family().end())
      DUJIANG_CHECK(sides.emplace(family->second, document.split).second, "two of family {} stay", family->second);
  return sides;
}

}  // namespace dujiang::data
