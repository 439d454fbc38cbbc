#pragma once
// Trains a SentencePiece model and writes the tokenizer directory that load_tokenizer and Hugging Face read.

#include <cstdint>
#include <functional>
#include <string>

namespace dujiang::data {

struct TrainTokenizerConfig {
  std::int32_t vocab_size = 8192;
  std::string model_type = "bpe";       // or unigram, which gets no tokenizer.json: Hugging Face's ids would differ
  double character_coverage = 0.9995;   // share of the text's characters that get a token; the rest are spelt in bytes
  std::int64_t sample_lines = 1000000;  // train on at most so many lines, drawn evenly
  std::uint64_t seed = 1;               // of the draw
  int threads = 1;
};

struct TrainTokenizerReport {
  std::int64_t lines = 0, sampled_lines = 0;
  std::int64_t sampled_bytes = 0;
  double seconds = 0;
};

/// Puts the next document into its argument; false at the end.
using NextDocument = std::function<bool(std::string&)>;
/// A phase and what is known of it, for the person waiting.
using TrainProgress = std::function<void(const std::string&)>;

/// Reads all documents (UTF-8), trains, writes `out_dir` beside itself and renames it into place; a directory that was
/// there is replaced. The same documents and config give the same bytes. UserError when the vocabulary can't be made
/// from this text, with what to change.
TrainTokenizerReport train_tokenizer(const TrainTokenizerConfig& config, const NextDocument& next,
                                     const std::string& out_dir, const TrainProgress& progress = {});

/// Writes tokenizer.json, tokenizer_config.json and special_tokens_map.json beside `dir`/tokenizer.model, such that
/// Hugging Face's ids equal ours on any text without U+2581. UserError when the model isn't BPE.
void export_hf(const std::string& dir);

}  // namespace dujiang::data
