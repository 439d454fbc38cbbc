#pragma once
// Trains a tokenizer and writes the directory that load_tokenizer and Hugging Face read.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/tokenizer/document_sample.h"
#include "data/tokenizer/pretokenizer.h"
#include "data/tokenizer/tokenizer_report.h"

namespace dujiang::data {

struct TrainTokenizerConfig {
  /// byte_bpe, or SentencePiece's bpe or unigram; the last gets no tokenizer.json, for Hugging Face's ids would differ.
  std::string type = "byte_bpe";
  std::int32_t vocab_size = 8192;  ///< with bytes and special tokens
  /// Train on at most so many bytes, drawn by weight (document_sample.h). byte_bpe takes about 12 bytes of memory for
  /// each; SentencePiece takes longer than in proportion: minutes for 16 MB.
  std::int64_t sample_bytes = std::int64_t{64} << 20;
  std::uint64_t seed = 1;  ///< of the draw
  int threads = 1;
  // byte_bpe:
  PretokenizerKind pretokenizer =
      PretokenizerKind::qwen2;        ///< where text is cut, and how digits are: singly or in threes
  std::int64_t min_frequency = 2;     ///< rarer pairs are not joined
  std::int64_t max_token_chars = 16;  ///< so that no sentence of boilerplate becomes a token
  // SentencePiece:
  double character_coverage = 0.9995;  ///< share of the text's characters that get a token; the rest are spelt in bytes
};

/// A document for training, or one held back, on which the tokenizer is judged.
struct TrainingDocument {
  std::string text;
  std::uint32_t source = 0;
  bool held_back = false;
};

/// Puts the next document into its argument; false at the end.
using NextDocument = std::function<bool(TrainingDocument&)>;
/// A phase and what is known of it, for the person waiting.
using TrainProgress = std::function<void(const std::string&)>;

struct TrainTokenizerReport {
  std::vector<DocumentSample::Count> sources;  ///< of documents for training, by source
  std::int64_t documents = 0, bytes = 0, sampled_bytes = 0;
  /// On at most 16 MiB of what was held back, or, when nothing was, of the text for training.
  TokenizerReport quality;
  bool held_back = false;  ///< which of them
  double seconds = 0;
};

/// Reads all documents (UTF-8), trains, writes `out_dir` beside itself and renames it into place; a directory that was
/// there is replaced. The same documents in any order, the same sources and config give the same bytes, on any number
/// of threads. UserError when the vocabulary can't be made from this text, with what to change.
TrainTokenizerReport train_tokenizer(const TrainTokenizerConfig& config, const std::vector<TextSource>& sources,
                                     const NextDocument& next, const std::string& out_dir,
                                     const TrainProgress& progress = {});

/// Trains SentencePiece on the lines of these texts: the bytes of tokenizer.model.
std::string train_sentencepiece(const TrainTokenizerConfig& config, const std::vector<std::string_view>& texts);

/// Writes tokenizer.json, tokenizer_config.json and special_tokens_map.json beside `dir`/tokenizer.model, such that
/// Hugging Face's ids equal ours on any text without U+2581. UserError when the model isn't BPE.
void export_hf(const std::string& dir);

}  // namespace dujiang::data
