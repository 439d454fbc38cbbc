#include <sentencepiece_trainer.h>

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "data/text/utf8.h"
#include "data/tokenizer/sentencepiece_tokenizer.h"
#include "data/tokenizer/train.h"
#include "framework/base/check.h"

namespace dujiang::data {

namespace {

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

}  // namespace

std::string train_sentencepiece(const TrainTokenizerConfig& config, const std::vector<std::string_view>& texts) {
  std::vector<std::string> lines;
  for (const std::string_view text : texts)
    for_each_line(text, [&](std::string_view line) { lines.emplace_back(line); });
  if (lines.empty()) fail_user("tokenizer: no text to train on");
  // Text without a space would leave the space without a piece; SentencePiece takes none that it hasn't seen.
  const auto has_space = [](const std::string& line) { return line.find(' ') != line.npos; };
  if (std::none_of(lines.begin(), lines.end(), has_space)) lines.emplace_back(" ");
  const std::unordered_map<std::string, std::string> arguments{
      {"model_type", config.type},
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

}  // namespace dujiang::data
