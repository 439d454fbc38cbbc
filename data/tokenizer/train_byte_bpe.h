#pragma once
// Learns byte-level BPE: counts the pieces of texts, then joins the most frequent pair again and again.

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/tokenizer/bpe_model.h"
#include "data/tokenizer/pretokenizer.h"

namespace dujiang::data {

/// A piece of the pre-tokeniser and how often it occurs.
struct PieceCount {
  std::string_view bytes;
  std::int64_t count = 0;
};

/// Counts the pieces of all texts (valid UTF-8), each cut on its own, on `threads` threads. The views point into the
/// texts; which of equal pieces they show and their order are not fixed. Memory is bounded by the texts: 32 bytes for
/// each distinct piece of each thread.
std::vector<PieceCount> count_pieces(const Pretokenizer& pretokenizer, std::span<const std::string_view> texts,
                                     int threads);

struct LearnMergesConfig {
  std::int64_t merges = 0;            ///< at most so many
  std::int64_t min_frequency = 2;     ///< pairs that occur less often are not joined
  std::int64_t max_token_chars = 16;  ///< no token begins more characters than this; 0: any length
};

/// The bytes in the order of their ids, which is that of the characters by which tokenizer.json spells them.
const std::array<unsigned char, 256>& bytes_in_order();

/// Merges of byte-level BPE over the counted pieces: the most frequent pair first, of equally frequent ones that of the
/// lower left id, then of the lower right id. Ids up to 255 are the bytes, in the order above; 256 + i is what merge i
/// makes. A function of the counts alone; the same as `tokenizers` learns from them. `progress` gets the number of
/// merges now and then. UserError when the pieces hold 4 GiB or more.
std::vector<std::pair<std::int32_t, std::int32_t>> learn_merges(const LearnMergesConfig& config,
                                                                std::vector<PieceCount> pieces,
                                                                const std::function<void(std::int64_t)>& progress = {});

/// The model of these merges, with one added token that ends a document behind them.
BpeModel make_bpe_model(const std::vector<std::pair<std::int32_t, std::int32_t>>& merges,
                        PretokenizerKind pretokenizer);

}  // namespace dujiang::data
