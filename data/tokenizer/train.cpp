#include "data/tokenizer/train.h"

#include <chrono>
#include <cmath>
#include <filesystem>

#include "data/text/utf8.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/train_byte_bpe.h"
#include "framework/base/check.h"
#include "framework/base/files.h"

namespace dujiang::data {

namespace {

namespace fs = std::filesystem;

constexpr std::int64_t report_bytes = std::int64_t{16} << 20;
constexpr std::int64_t least_sample = std::int64_t{1} << 16, largest_sample = std::int64_t{1} << 31;

void check_config(const TrainTokenizerConfig& config, const std::vector<TextSource>& sources) {
  if (config.type != "byte_bpe" && config.type != "bpe" && config.type != "unigram")
    fail_user("tokenizer: type is byte_bpe, bpe or unigram, found {}", config.type);
  if (config.vocab_size < 300)
    fail_user("tokenizer: vocab_size must be at least 300 (256 bytes and some), found {}", config.vocab_size);
  if (config.sample_bytes < least_sample || config.sample_bytes > largest_sample)
    fail_user("tokenizer: sample_bytes must lie in [{}, {}], found {}", least_sample, largest_sample,
              config.sample_bytes);
  if (config.threads < 1) fail_user("tokenizer: threads must be positive, found {}", config.threads);
  if (config.min_frequency < 1) fail_user("tokenizer: min_frequency must be positive, found {}", config.min_frequency);
  if (config.max_token_chars < 1)
    fail_user("tokenizer: max_token_chars must be positive, found {}", config.max_token_chars);
  if (!(config.character_coverage >= 0.9 && config.character_coverage <= 1.0))
    fail_user("tokenizer: character_coverage must lie in [0.9, 1], found {}", config.character_coverage);
  double weight = 0;
  for (const TextSource& source : sources) {
    if (!(source.weight >= 0 && std::isfinite(source.weight)))
      fail_user("tokenizer: source {}: weight must be a number from 0 on, found {}", source.name, source.weight);
    weight += source.weight;
  }
  if (weight == 0) fail_user("tokenizer: no source with a weight above 0");
}

BpeModel train_byte_bpe(const TrainTokenizerConfig& config, const std::vector<std::string_view>& texts,
                        const TrainProgress& say) {
  const std::int64_t wanted = config.vocab_size - 257;  // bytes, and the end of a document
  auto pieces = count_pieces(Pretokenizer(config.pretokenizer), texts, config.threads);
  say(fmt::format("{} different pieces", pieces.size()));
  const auto merges =
      learn_merges({.merges = wanted, .min_frequency = config.min_frequency, .max_token_chars = config.max_token_chars},
                   std::move(pieces), [&](std::int64_t done) {
                     if (done % 4096 == 0) say(fmt::format("{} of {} merges", done, wanted));
                   });
  if (static_cast<std::int64_t>(merges.size()) < wanted) {
    fail_user(
        "tokenizer: a vocabulary of {} can't be made from this text, which has pairs for {}; lower vocab_size, give "
        "more text, or lower min_frequency = {}",
        config.vocab_size, merges.size() + 257, config.min_frequency);
  }
  return make_bpe_model(merges, config.pretokenizer);
}

}  // namespace

TrainTokenizerReport train_tokenizer(const TrainTokenizerConfig& config, const std::vector<TextSource>& sources,
                                     const NextDocument& next, const std::string& out_dir,
                                     const TrainProgress& progress) {
  const auto start = std::chrono::steady_clock::now();
  const TrainProgress say = progress ? progress : [](const std::string&) {};
  check_config(config, sources);
  DocumentSample sample(config.sample_bytes, config.seed, sources), held_back(report_bytes, config.seed, sources);
  TrainingDocument document;
  for (std::int64_t number = 0; next(document); ++number) {
    const std::size_t valid = utf8_valid_prefix(document.text);
    if (valid != document.text.size()) fail_user("tokenizer: document {} isn't UTF-8 at byte offset {}", number, valid);
    (document.held_back ? held_back : sample).add(document.text, document.source);
  }
  TrainTokenizerReport report;
  report.sources = sample.counts();
  for (const auto& count : report.sources) {
    report.documents += count.documents;
    report.bytes += count.bytes;
  }
  report.sampled_bytes = sample.bytes();
  if (sample.bytes() == 0) fail_user("tokenizer: no text to train on");
  say(fmt::format("training a {} vocabulary of {} on {:.1f} of {:.1f} MB", config.type, config.vocab_size,
                  static_cast<double>(report.sampled_bytes) / 1e6, static_cast<double>(report.bytes) / 1e6));
  const std::vector<DocumentSample::Part> parts = sample.take();
  std::vector<std::string_view> texts;
  for (const auto& part : parts) texts.push_back(part.text);
  const bool byte_level = config.type == "byte_bpe";
  const BpeModel model = byte_level ? train_byte_bpe(config, texts, say) : BpeModel{};
  const std::string sentencepiece = byte_level ? "" : train_sentencepiece(config, texts);

  const fs::path out = fs::path(out_dir).lexically_normal();
  const fs::path target = out.has_filename() ? out : out.parent_path();
  const fs::path beside = target.string() + ".writing", old = target.string() + ".old";
  fs::remove_all(beside);
  fs::create_directories(beside);
  if (byte_level) write_tokenizer_json(beside.string(), model);
  if (!byte_level) write_file(beside / "tokenizer.model", sentencepiece);
  if (config.type == "bpe") export_hf(beside.string());
  const auto tokenizer = load_tokenizer(beside.string());  // refuses a model that doesn't give text back

  report.held_back = held_back.bytes() > 0;
  std::vector<DocumentSample::Part> judged;
  if (report.held_back) judged = held_back.take();
  std::vector<SourceText> judged_texts;
  std::int64_t bytes = 0;
  for (const auto& part : report.held_back ? judged : parts) {
    if ((bytes += static_cast<std::int64_t>(part.text.size())) > report_bytes) break;
    judged_texts.push_back({part.text, part.source});
  }
  report.quality = report_tokenizer(*tokenizer, sources, judged_texts, config.threads);

  fs::remove_all(old);
  if (fs::exists(target)) fs::rename(target, old);
  fs::rename(beside, target);
  fs::remove_all(old);
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  say(fmt::format("wrote {} in {:.1f} s", target.string(), report.seconds));
  return report;
}

}  // namespace dujiang::data
