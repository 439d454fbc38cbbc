#pragma once
// How well a model predicts held-out text.

#include <functional>
#include <span>
#include <string>

#include "comm/communicator.h"
#include "data/loader/loader.h"
#include "data/tokenizer/tokenizer.h"
#include "framework/models/qwen3.h"

namespace dujiang::train {

/// Mean loss per label over one pass of `reader` (at most `batches` batches; 0: all), over all ranks of the
/// communicator, which read the same number of batches. Collective.
double evaluate_split(models::Qwen3& model, data::EvalReader& reader, std::int64_t batches,
                      comm::Communicator& communicator);

/// Sums of negative log-likelihood (natural logarithm) over texts.
struct TextScore {
  double nll = 0;
  std::int64_t tokens = 0, bytes = 0, characters = 0;
  double nll_per_token() const;
  double bits_per_byte() const;
  double bits_per_char() const;
};

struct TextScoreOptions {
  std::int64_t window = 0;  ///< tokens that the model sees at once; 0: max_position_embeddings
  std::int64_t stride = 0;  ///< tokens scored per window, each after at least window - stride others; 0: half a window
  std::int64_t batch = 8;   ///< windows per forward pass
};

/// Scores documents, every token once: the first after the end-of-document token, as in training. `progress` is called
/// with the number of documents done.
TextScore score_texts(models::Qwen3& model, const data::Tokenizer& tokenizer, std::span<const std::string> documents,
                      const TextScoreOptions& options = {}, const std::function<void(std::size_t)>& progress = {});

}  // namespace dujiang::train
