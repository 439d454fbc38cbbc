#include <sentencepiece_trainer.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <unordered_map>
#include <vector>

#include "data/text/utf8.h"
#include "data/tokenizer/sentencepiece_tokenizer.h"
#include "data/tokenizer/train.h"
#include "framework/base/check.h"
#include "framework/base/philox.h"

namespace dujiang::data {

namespace {

namespace fs = std::filesystem;

// SentencePiece's cost per line grows faster than the line; a longer one is cut, at the cost of a pair or two.
constexpr std::size_t max_line_bytes = 2048;

// Never inside a piece: controls are spelt in bytes, U+2581 stands for the space and U+2585 for unknown characters
// (SentencePiece drops whole lines for the last two).
bool cuts_line(char32_t c) {
  return c < 0x20 || c == 0x2581 || c == 0x2585;
}

template <class Sink>
void for_each_line(std::string_view text, Sink&& sink) {
  std::size_t begin = 0;
  for (std::size_t pos = 0; pos < text.size();) {
    const std::size_t at = pos;
    const bool cut = cuts_line(next_char(text, pos));
    if (!cut && pos - begin < max_line_bytes) continue;
    const std::size_t end = cut ? at : pos;
    if (end > begin) sink(text.substr(begin, end - begin));
    begin = pos;
  }
  if (begin < text.size()) sink(text.substr(begin));
}

// Keeps an even draw of at most `capacity` lines, in memory, whatever the length of the stream (Vitter's algorithm R).
class LineSample {
 public:
  LineSample(std::int64_t capacity, std::uint64_t seed)
      : capacity_(capacity), random_(seed, stream_of("tokenizer.sample")) {}

  void add(std::string_view line) {
    const auto seen = static_cast<std::uint64_t>(seen_++);
    if (seen < static_cast<std::uint64_t>(capacity_)) {
      lines_.emplace_back(line);
      return;
    }
    const std::uint64_t slot = random_.below(seen, seen + 1);
    if (slot < lines_.size()) lines_[slot] = line;
  }
  // Text without a space would leave the space without a piece; SentencePiece takes none that it hasn't seen.
  void ensure_space() {
    const auto has_space = [](const std::string& line) { return line.find(' ') != line.npos; };
    if (std::none_of(lines_.begin(), lines_.end(), has_space)) lines_.emplace_back(" ");
  }
  std::int64_t seen() const { return seen_; }
  const std::vector<std::string>& lines() const { return lines_; }

 private:
  std::int64_t capacity_;
  Philox random_;
  std::int64_t seen_ = 0;
  std::vector<std::string> lines_;
};

class LineIterator final : public sentencepiece::SentenceIterator {
 public:
  explicit LineIterator(const std::vector<std::string>& lines) : lines_(lines) {}
  bool done() const override { return at_ == lines_.size(); }
  void Next() override { ++at_; }
  const std::string& value() const override { return lines_[at_]; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  const std::vector<std::string>& lines_;
  std::size_t at_ = 0;
};

std::string train_model(const TrainTokenizerConfig& config, const std::vector<std::string>& lines) {
  const std::unordered_map<std::string, std::string> arguments{
      {"model_type", config.model_type},
      {"vocab_size", std::to_string(config.vocab_size)},
      {"character_coverage", fmt::format("{}", config.character_coverage)},
      {"num_threads", std::to_string(config.threads)},
      {"max_sentence_length", std::to_string(max_line_bytes + 4)},
      {"normalization_rule_name", "identity"},
      {"byte_fallback", "true"},
      {"remove_extra_whitespaces", "false"},
      {"add_dummy_prefix", "false"},
      {"allow_whitespace_only_pieces", "true"},
      {"split_digits", "true"},
      {"split_by_unicode_script", "true"},
      {"required_chars", "\xE2\x96\x81"},  // the space, however rare
      // Names with U+2581 can't be met in text by Hugging Face's matching of added tokens, whose ids would then differ.
      {"unk_piece", "<｜unknown\xE2\x96\x81token｜>"},
      {"eos_piece", "<｜end\xE2\x96\x81of\xE2\x96\x81sentence｜>"},
      {"unk_id", "0"},
      {"eos_id", "1"},
      {"bos_id", "-1"},
      {"pad_id", "-1"},
      {"minloglevel", "2"},
  };
  LineIterator iterator(lines);
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(arguments, &iterator, &model);
  if (!status.ok()) {
    std::string_view fault = status.message();  // "./src/file.cc(1) [condition] what is wrong"
    if (const std::size_t end = fault.rfind("] "); end != fault.npos) fault.remove_prefix(end + 2);
    fail_user(
        "tokenizer: a vocabulary of {} can't be made from these {} lines: {}\n(too small for the characters of the "
        "text: raise vocab_size or lower character_coverage; too large for the text: lower vocab_size or give more "
        "text)",
        config.vocab_size, lines.size(), fault);
  }
  return model;
}

void write_file(const fs::path& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  DUJIANG_CHECK(file.good(), "{}: writing {} bytes failed (disk full?)", path.string(), bytes.size());
}

void check_config(const TrainTokenizerConfig& config) {
  if (config.model_type != "bpe" && config.model_type != "unigram") {
    fail_user("tokenizer: model_type is bpe or unigram, found {}", config.model_type);
  }
  if (config.vocab_size < 300)
    fail_user("tokenizer: vocab_size must be at least 300 (256 bytes and some), found {}", config.vocab_size);
  if (!(config.character_coverage >= 0.9 && config.character_coverage <= 1.0)) {
    fail_user("tokenizer: character_coverage must lie in [0.9, 1], found {}", config.character_coverage);
  }
  if (config.sample_lines < 1) fail_user("tokenizer: sample_lines must be positive, found {}", config.sample_lines);
  if (config.threads < 1) fail_user("tokenizer: threads must be positive, found {}", config.threads);
}

}  // namespace

TrainTokenizerReport train_tokenizer(const TrainTokenizerConfig& config, const NextDocument& next,
                                     const std::string& out_dir, const TrainProgress& progress) {
  const auto start = std::chrono::steady_clock::now();
  const auto say = [&](const std::string& what) {
    if (progress) progress(what);
  };
  check_config(config);
  LineSample sample(config.sample_lines, config.seed);
  std::string text;
  for (std::int64_t document = 0; next(text); ++document) {
    const std::size_t valid = utf8_valid_prefix(text);
    if (valid != text.size()) fail_user("tokenizer: document {} isn't UTF-8 at byte offset {}", document, valid);
    for_each_line(text, [&](std::string_view line) { sample.add(line); });
  }
  if (sample.lines().empty()) fail_user("tokenizer: no text to train on");
  TrainTokenizerReport report;
  report.lines = sample.seen();
  report.sampled_lines = static_cast<std::int64_t>(sample.lines().size());
  sample.ensure_space();
  for (const std::string& line : sample.lines()) report.sampled_bytes += static_cast<std::int64_t>(line.size());
  say(fmt::format("training a {} vocabulary of {} on {} of {} lines, {:.1f} MB", config.model_type, config.vocab_size,
                  report.sampled_lines, report.lines, static_cast<double>(report.sampled_bytes) / 1e6));
  const std::string model = train_model(config, sample.lines());

  const fs::path out = fs::path(out_dir).lexically_normal();
  const fs::path target = out.has_filename() ? out : out.parent_path();
  const fs::path beside = target.string() + ".writing", old = target.string() + ".old";
  fs::remove_all(beside);
  fs::create_directories(beside);
  write_file(beside / "tokenizer.model", model);
  if (config.model_type == "bpe") export_hf(beside.string());
  load_tokenizer(beside.string());  // refuses a model that doesn't give text back
  fs::remove_all(old);
  if (fs::exists(target)) fs::rename(target, old);
  fs::rename(beside, target);
  fs::remove_all(old);
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  say(fmt::format("wrote {} in {:.1f} s", target.string(), report.seconds));
  return report;
}

}  // namespace dujiang::data
