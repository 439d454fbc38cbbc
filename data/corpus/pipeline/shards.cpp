#include "data/corpus/pipeline/shards.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>

#include "data/corpus/pipeline/growth.h"
#include "data/corpus/pipeline/tasks.h"
#include "data/corpus/pipeline/token_file.h"
#include "data/text/hash.h"
#include "framework/base/check.h"
#include "framework/base/files.h"

namespace dujiang::data {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr std::array<const char*, 2> splits{"train", "valid"};
constexpr std::array<const char*, 2> text_files{"train.txt", "held_out.txt"};

json json_of(const std::vector<SplitCounts>& counts) {
  json out = json::array();
  for (const auto& c : counts) out.push_back({c.documents, c.bytes, c.tokens});
  return out;
}

void add_counts(std::vector<SplitCounts>& sum, const json& counts) {
  sum.resize(counts.size());
  for (std::size_t s = 0; s < counts.size(); ++s)
    sum[s] += SplitCounts{counts[s].at(0), counts[s].at(1), counts[s].at(2)};
}

json read_json(const fs::path& path) {
  try {
    return json::parse(read_file(path));
  } catch (const json::exception& error) {
    fail_user("{}: cannot be read ({}): remove it and start again", path.string(), error.what());
  }
}

void append_text(std::string& out, std::string_view text) {
  if (!out.empty()) out += '\n';
  out += text;
  if (!text.ends_with('\n')) out += '\n';
}

// One piece's documents as tokens, and what was counted on the way.
void tokenise(const CorpusBuild& build, const std::string& phase, const Tokenizer& tokenizer, bool keep_text,
              std::size_t p) {
  const ChosenPiece piece = build.chosen(p);
  const std::size_t sources = build.config().sources.size();
  std::array<std::vector<SplitCounts>, 2> counts;
  counts.fill(std::vector<SplitCounts>(sources));
  std::array<std::string, 2> texts;
  Order0 order0;
  TokenFileWriter out(tokenizer.vocab_size());
  for (const ChosenDocument& chosen : piece.documents) {
    const auto& record = piece.texts.records()[chosen.index];
    const std::string_view text = piece.texts.text(chosen.index);
    auto tokens = tokenizer.encode(text);
    tokens.push_back(tokenizer.eos_id());
    out.add({.begin = 0,
             .end = 0,
             .hash = {chosen.hash[0], chosen.hash[1]},
             .cluster = chosen.cluster,
             .offset = record.offset,
             .bytes = record.bytes,
             .source = record.source,
             .file = record.file,
             .quality = record.quality,
             .held_out = static_cast<std::uint8_t>(chosen.held_out),
             .encoding = record.encoding,
             .script = record.script,
             .unused = 0},
            tokens);
    counts[chosen.held_out][record.source] +=
        SplitCounts{1, static_cast<std::int64_t>(text.size()), static_cast<std::int64_t>(tokens.size())};
    chosen.held_out ? order0.add_held_out(text) : order0.add_training(text);
    if (chosen.held_out || keep_text) append_text(texts[chosen.held_out], text);
  }
  out.write(build.work_file(phase, p, "tokens"));
  for (std::size_t split = 0; split < splits.size(); ++split)
    write_file(build.work_file(phase, p, text_files[split]), texts[split]);
  write_file(build.work_file(phase, p, "json"),
             json{{"train", json_of(counts[0])}, {"held_out", json_of(counts[1])}, {"order0", order0}}.dump());
}

// Shard n of a split holds the documents that begin at its tokens [n, n + 1) * shard_tokens, so a shard is a task of
// its own.
struct ShardTask {
  std::uint32_t split;
  std::int64_t number;
};

class ShardTasks {
 public:
  ShardTasks(const CorpusBuild& build, const std::string& phase, const DatasetInfo& info, std::int64_t shard_tokens)
      : build_(build), phase_(phase), info_(info), shard_tokens_(shard_tokens) {
    for (auto& split : first_token_) split.assign(1, 0);
    for (std::size_t split = 0; build.before() && split < splits.size(); ++split)
      first_number_[split] = build.before()->next_number(splits[split]);
    for (std::size_t p = 0; p < build.pieces(); ++p) {
      const json part = read_json(build.work_file(phase, p, "json"));
      for (std::size_t split = 0; split < splits.size(); ++split) {
        std::vector<SplitCounts> counts;
        add_counts(counts, part.at(split == 0 ? "train" : "held_out"));
        std::int64_t tokens = 0;
        for (const auto& c : counts) tokens += c.tokens;
        first_token_[split].push_back(first_token_[split].back() + tokens);
      }
    }
    // Of a small dataset some processes would have none to write.
    constexpr std::int64_t wanted = 16, least = std::int64_t{4} << 20;
    shard_tokens_ = std::min(shard_tokens_, std::max(first_token_[0].back() / wanted + 1, least));
    for (std::uint32_t split = 0; split < splits.size(); ++split)
      for (std::int64_t n = 0; n * shard_tokens_ < first_token_[split].back(); ++n) tasks_.push_back({split, n});
  }

  std::size_t size() const { return tasks_.size(); }
  fs::path summary(std::size_t task) const {
    return build_.work_file(phase_, static_cast<std::uint64_t>(tasks_[task].number), splits[tasks_[task].split]);
  }

  void run(std::size_t task) const {
    if (fs::exists(summary(task))) return;
    const auto [split, number] = tasks_[task];
    const std::int64_t from = number * shard_tokens_, to = from + shard_tokens_;
    ShardWriter writer(build_.folder() / shard_name(splits[split], first_number_[split] + number), splits[split], info_,
                       shard_tokens_);
    const auto& first = first_token_[split];
    for (std::size_t p = 0; p < build_.pieces() && first[p] < to; ++p) {
      if (first[p + 1] <= from) continue;
      const TokenFileReader piece(build_.work_file(phase_, p, "tokens"));
      std::int64_t at = first[p];
      for (const TokenRecord& record : piece.records()) {
        if (record.held_out != split) continue;
        if (at >= from && at < to) add(writer, record, piece.tokens(record));
        at += static_cast<std::int64_t>(record.end - record.begin);
      }
    }
    // A document longer than a shard leaves numbers behind it unused.
    nlohmann::ordered_json written;
    if (writer.tokens() > 0) written = writer.finish();
    write_file(summary(task), written.dump());
  }

  std::vector<ShardSummary> summaries() const {
    std::vector<ShardSummary> out;
    for (std::size_t task = 0; task < size(); ++task) {
      if (const auto written = nlohmann::ordered_json::parse(read_file(summary(task))); !written.is_null())
        out.push_back(written);
    }
    return out;
  }

 private:
  void add(ShardWriter& writer, const TokenRecord& record, std::span<const std::int32_t> tokens) const {
    Document document;
    document.tokens = tokens;
    document.source = record.source;
    document.hash = {record.hash[0], record.hash[1]};
    document.quality = record.quality;
    document.cluster = record.cluster;
    document.file = build_.plan().files[record.file].path;
    document.offset = record.offset;
    document.bytes = record.bytes;
    document.encoding = record.encoding;
    document.script = record.script;
    writer.add(document);
  }

  const CorpusBuild& build_;
  const std::string& phase_;
  const DatasetInfo& info_;
  std::int64_t shard_tokens_;
  std::array<std::int64_t, 2> first_number_{};            // of a shard, behind those of the dataset that grows
  std::array<std::vector<std::int64_t>, 2> first_token_;  // of each piece in its split, and the total
  std::vector<ShardTask> tasks_;
};

// The pieces' texts behind the dataset's own, a blank line between documents.
void join_texts(const CorpusBuild& build, const std::string& phase, const fs::path& to) {
  const fs::path name = to.filename(), before = build.folder() / name;
  DurableFile out(to);
  bool begun = build.before() && fs::exists(before) && fs::file_size(before) > 0;
  if (begun) append_file(out, before);
  for (std::size_t p = 0; p < build.pieces(); ++p) {
    const std::string text = read_file(build.work_file(phase, p, name.string()));
    if (text.empty()) continue;
    if (begun) out.write("\n");
    out.write(text);
    begun = true;
  }
  out.commit();
}

}  // namespace

SplitCounts& SplitCounts::operator+=(const SplitCounts& other) {
  documents += other.documents;
  bytes += other.bytes;
  tokens += other.tokens;
  return *this;
}

SplitCounts ShardReport::total(const std::vector<SplitCounts>& split) const {
  SplitCounts sum;
  for (const auto& counts : split) sum += counts;
  return sum;
}

namespace {

// One folder of work for all that the choice of documents doesn't decide: with another tokenizer a restart must not
// meet the tokens of the one before.
std::string phase_of(const Tokenizer& tokenizer, const DatasetInfo& info, const ShardOptions& options) {
  const auto hash =
      hash128(fmt::format("{} {} {} {}", tokenizer.sha256(), info.pipeline, options.shard_tokens, options.keep_text));
  return fmt::format("tokens-{:016x}", hash[0]);
}

// Shards of a build that was cut short and begun again with another tokenizer.
void remove_other_shards(const CorpusBuild& build, const Manifest& manifest) {
  std::set<std::string> listed;
  for (const auto& shard : manifest.shards) listed.insert(shard.file);
  std::vector<fs::path> others;
  for (const auto& entry : fs::directory_iterator(build.folder()))
    if (const fs::path& path = entry.path(); path.extension() == ".h5" && !listed.contains(path.filename().string()))
      others.push_back(path);
  for (const fs::path& path : others) fs::remove(path);
}

// The files beside the shards, the manifest last.
void write_files(const CorpusBuild& build, const std::string& phase, const ShardReport& report,
                 const ShardOptions& options, const fs::path& to) {
  join_texts(build, phase, to / "held_out.txt");
  if (options.keep_text) join_texts(build, phase, to / "train.txt");
  build.join_rejects(to / "rejects.jsonl.zst");
  if (options.account) write_file(to / "build.json", options.account(report));
  write_file(to / file_list, build.file_lines());
  write_file(to / "order0.json", json(report.order0).dump() + "\n");
  write_manifest(to, report.manifest);
}

// From what is whole in work/next to where it belongs. After a kill it goes on.
void move_files(const CorpusBuild& build, const fs::path& next) {
  std::vector<fs::path> names;
  for (const auto& entry : fs::directory_iterator(next))
    if (const fs::path name = entry.path().filename(); name != "whole" && name != "manifest.json")
      names.push_back(name);
  for (const fs::path& name : names) fs::rename(next / name, build.folder() / name);
  sync_directory(build.folder());
  fs::rename(next / "manifest.json", build.folder() / "manifest.json");
  sync_directory(build.folder());
}

}  // namespace

ShardReport write_dataset(const CorpusBuild& build, const Tokenizer& tokenizer, const DatasetInfo& info,
                          const ShardOptions& options) {
  const std::string phase = phase_of(tokenizer, info, options);
  build.each_piece(phase, "json", [&](std::size_t p) { tokenise(build, phase, tokenizer, options.keep_text, p); });
  const ShardTasks tasks(build, phase, info, options.shard_tokens);
  if (tasks.size() == 0 && !build.before()) build.fail_empty();
  run_tasks(build.team(), tasks.size(), [&](std::size_t task) { tasks.run(task); });
  build.team().barrier();

  ShardReport report;
  if (!build.team().leads()) return report;
  for (std::size_t p = 0; p < build.pieces(); ++p) {
    const json part = read_json(build.work_file(phase, p, "json"));
    add_counts(report.train, part.at("train"));
    add_counts(report.held_out, part.at("held_out"));
    report.order0 += part.at("order0").get<Order0>();
  }
  if (report.total(report.train).documents == 0 && !build.before()) build.fail_empty();

  report.choice = build.report();
  const Manifest added{info, tasks.summaries()};
  const Counts out = report.choice.ledger.let_out();
  const SplitCounts train = report.total(report.train), held_out = report.total(report.held_out);
  DUJIANG_CHECK(out.documents == train.documents + held_out.documents && out.bytes == train.bytes + held_out.bytes &&
                    added.documents("train") == train.documents && added.documents("valid") == held_out.documents,
                "of {} documents that stay, {} and {} are in the shards of train and valid", out.documents,
                added.documents("train"), added.documents("valid"));
  if (!build.before()) {
    report.manifest = added;
    remove_other_shards(build, report.manifest);
    write_files(build, phase, report, options, build.folder());
    return report;
  }
  report.manifest = extended(*build.before(), info, added.shards);
  const fs::path next = build.folder() / "work" / "next";
  if (!fs::exists(next / "whole")) {
    fs::remove_all(next);
    fs::create_directories(next);
    report.order0 += read_json(build.folder() / "order0.json").get<Order0>();
    write_files(build, phase, report, options, next);
    write_file(next / "whole", "");
  } else {
    report.order0 = read_json((fs::exists(next / "order0.json") ? next : build.folder()) / "order0.json");
    report.manifest = read_manifest(next);
  }
  move_files(build, next);
  remove_other_shards(build, report.manifest);
  return report;
}

}  // namespace dujiang::data
