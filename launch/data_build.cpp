// dujiang data build: text through the corpus pipeline and the tokenizer into shards.
//
// Beside the dataset's own files it writes
//   held_out.txt   the held-out documents, a blank line between them: for `dujiang eval` and for other programs
//   train.txt      the training documents likewise, with --keep-text
//   build.json     what the pipeline kept and dropped, and an order-0 model's score of held_out.txt

#include "launch/data_build.h"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "data/corpus/build/order0.h"
#include "data/shard/dataset_writer.h"
#include "data/text/sha256.h"
#include "data/text/utf8.h"
#include "data/tokenizer/tokenizer.h"
#include "framework/base/check.h"
#include "framework/base/files.h"
#include "framework/base/threads.h"
#include "launch/corpus.h"

namespace dujiang::launch {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// What sha256sum(1) says of its own output over the source's files: one name for all of them.
std::string sha256_of(const data::SourceConfig& source) {
  data::Sha256 all;
  for (const auto& file : data::list_files(source)) all.update(data::sha256_file(file) + "  " + file + "\n");
  return all.hex();
}

data::DatasetInfo describe(const train::Config& config, const data::Tokenizer& tokenizer) {
  data::DatasetInfo info;
  info.vocab_size = tokenizer.vocab_size();
  info.tokenizer_sha256 = tokenizer.sha256();
  const auto& filter = config.data.filter;
  info.pipeline = json{{"han_lines", filter.han_lines},
                       {"min_han", filter.min_han},
                       {"min_han_share", filter.min_han_share},
                       {"drop_duplicate_lines", filter.drop_duplicate_lines},
                       {"drop_duplicate_documents", filter.drop_duplicate_documents},
                       {"min_chars", filter.min_chars},
                       {"held_out_share", config.data.held_out_share}}
                      .dump();
  for (const auto& source : config.data.sources) {
    info.sources.push_back({source.name, source.licence, sha256_of(source)});
  }
  return info;
}

// Documents one after the other in a text file, a blank line between them.
class TextFile {
 public:
  explicit TextFile(fs::path path) : path_(std::move(path)), file_(path_, std::ios::binary | std::ios::trunc) {}

  void add(const std::string& text) {
    if (bytes_ > 0) put("\n");
    put(text);
    if (text.back() != '\n') put("\n");
  }
  void close() {
    file_.close();
    if (!file_) fail("{}: can't be written (is the disk full?)", path_.string());
  }
  std::int64_t bytes() const { return bytes_; }

 private:
  void put(std::string_view text) {
    file_ << text;
    bytes_ += static_cast<std::int64_t>(text.size());
  }

  fs::path path_;
  std::ofstream file_;
  std::int64_t bytes_ = 0;
};

json json_of(const data::PipelineCounts& counts) {
  return {{"documents", counts.documents}, {"lines", counts.lines}, {"bytes", counts.bytes}};
}

json json_of(const data::CorpusReport& report, const std::vector<train::SourceSection>& sources) {
  json dropped = json::object(), kept = json::object();
  for (int rule = 0; rule < data::rule_count; ++rule) {
    dropped[std::string(data::rule_name(static_cast<data::Rule>(rule)))] =
        json_of(report.filter.dropped[static_cast<std::size_t>(rule)]);
  }
  for (std::size_t i = 0; i < sources.size(); ++i) kept[sources[i].name] = json_of(report.kept_by_source[i]);
  return {{"files", report.files},          {"input", json_of(report.filter.input)},
          {"kept_by_source", kept},         {"dropped", dropped},
          {"train", json_of(report.train)}, {"held_out", json_of(report.held_out)},
          {"nul_bytes", report.nul_bytes}};
}

}  // namespace

void build_data(const train::Config& config, bool keep_text, const Report& report) {
  const auto tokenizer = data::load_tokenizer(config.tokenizer.path);
  if (config.tokenizer.vocab_size != 0 && tokenizer->vocab_size() != config.tokenizer.vocab_size) {
    fail_user("{}: the tokenizer has {} tokens, tokenizer.vocab_size says {}: train it anew or mend the config",
              config.tokenizer.path, tokenizer->vocab_size(), config.tokenizer.vocab_size);
  }
  if (tokenizer->eos_id() < 0) fail_user("{}: the tokenizer has no token that ends a document", config.tokenizer.path);

  const fs::path folder = config.data.path;
  data::DatasetWriter writer(folder, describe(config, *tokenizer), config.data.shard_tokens);
  TextFile held_out(folder / "held_out.txt");
  std::unique_ptr<TextFile> training;
  if (keep_text) training = std::make_unique<TextFile>(folder / "train.txt");

  DocumentStream stream(corpus_of(config));
  data::Order0 order0;
  Progress progress;
  std::int64_t documents = 0, tokens = 0;
  // Documents are encoded together, a thread each, and written in order.
  std::vector<data::PipelineDocument> batch(static_cast<std::size_t>(64) * static_cast<std::size_t>(thread_count()));
  std::vector<std::vector<std::int32_t>> ids(batch.size());
  for (bool more = true; more;) {
    std::size_t count = 0;
    while (count < batch.size() && (more = stream.next(batch[count]))) ++count;
    std::exception_ptr failure;
    parallel_tasks(static_cast<std::int64_t>(count), [&](std::int64_t i) {
      const auto at = static_cast<std::size_t>(i);
      try {
        ids[at] = tokenizer->encode(batch[at].text);
        ids[at].push_back(tokenizer->eos_id());
      } catch (...) {
#pragma omp critical(dujiang_build_data)
        failure = std::current_exception();
      }
    });
    if (failure) std::rethrow_exception(failure);
    for (std::size_t i = 0; i < count; ++i) {
      const auto& document = batch[i];
      writer.add(document.held_out ? "valid" : "train",
                 {ids[i], static_cast<std::uint32_t>(document.source_index), document.hash128, 0});
      if (document.held_out) {
        held_out.add(document.text);
        order0.add_held_out(document.text);
      } else {
        if (training) training->add(document.text);
        order0.add_training(document.text);
      }
      tokens += static_cast<std::int64_t>(ids[i].size());
    }
    documents += static_cast<std::int64_t>(count);
    progress.update([&] { return fmt::format("data: {} documents, {:.1f} M tokens", documents, tokens / 1e6); });
  }
  held_out.close();
  if (training) training->close();
  const data::Manifest manifest = writer.finish();

  json build = json_of(stream.report(), config.data.sources);
  build["seconds"] = progress.seconds();
  build["train_chars"] = order0.training_chars();
  build["held_out_chars"] = order0.held_out_chars();
  build["held_out_order0_bits_per_byte"] = order0.bits_per_byte();
  const std::string text = build.dump(2) + "\n";
  write_file(folder / "build.json", text);

  const auto& corpus = stream.report();
  std::string summary = fmt::format(
      "data: {} files, {} documents in, {} kept ({:.2f} MB): {} to train on, {} ({:.0f} KB) held out\n", corpus.files,
      corpus.filter.input.documents, corpus.filter.kept.documents, static_cast<double>(corpus.filter.kept.bytes) / 1e6,
      corpus.train.documents, corpus.held_out.documents, static_cast<double>(corpus.held_out.bytes) / 1e3);
  for (int rule = 0; rule < data::rule_count; ++rule) {
    const auto& dropped = corpus.filter.dropped[static_cast<std::size_t>(rule)];
    if (dropped.documents + dropped.lines == 0) continue;
    summary += fmt::format("data: dropped by {}: {} documents, {} lines, {:.2f} MB\n",
                           data::rule_name(static_cast<data::Rule>(rule)), dropped.documents, dropped.lines,
                           static_cast<double>(dropped.bytes) / 1e6);
  }
  summary += fmt::format("data: {} tokens in {} shards, {:.2f} characters per token, in {:.0f} s: {}\n", tokens,
                         manifest.shards.size(),
                         static_cast<double>(order0.training_chars() + order0.held_out_chars()) /
                             static_cast<double>(std::max<std::int64_t>(tokens, 1)),
                         progress.seconds(), folder.string());
  build["tokens"] = tokens;
  build["documents"] = documents;
  build["shards"] = manifest.shards.size();
  build["path"] = folder.string();
  report.print(summary, build);
}

}  // namespace dujiang::launch
