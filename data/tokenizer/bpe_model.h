#pragma once
// A byte-level BPE model as data, and the files of Hugging Face that hold it.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "data/tokenizer/pretokenizer.h"

namespace dujiang::data {

/// A token that is found in the text before anything else is done with it.
struct AddedToken {
  std::int32_t id = -1;
  std::string content;
  bool special = true;       ///< stands for no text: decodes to nothing
  bool lstrip = false;       ///< takes the white space before it too
  bool rstrip = false;       ///< takes the white space behind it too
  bool single_word = false;  ///< only where no word character touches it
  bool normalized = false;   ///< is looked for in the normalised text, not in the raw one

  bool operator==(const AddedToken&) const = default;
};

struct BpeModel {
  /// Bytes by id; empty for ids that only `added` holds. All 256 single bytes are among them, each string once.
  std::vector<std::string> tokens;
  /// Ids of left and right, first rank first; the joined bytes are a token.
  std::vector<std::pair<std::int32_t, std::int32_t>> merges;
  std::vector<AddedToken> added;  ///< by id
  PretokenizerKind pretokenizer = PretokenizerKind::qwen2;
  bool nfc = false;                                     ///< text is normalised to NFC
  bool ignore_merges = false;                           ///< a whole piece that is a token is taken as it is
  std::int32_t bos = -1, eos = -1, unk = -1, pad = -1;  ///< ids of added tokens; -1: none

  bool operator==(const BpeModel&) const = default;
};

/// Reads `dir`/tokenizer.json and, where it is there, tokenizer_config.json. UserError naming file and field when the
/// file is damaged or holds anything that would give other ids here than with Hugging Face. What is read but has no
/// effect on plain encoding (post-processors) is added to `notes`, one sentence each.
BpeModel read_tokenizer_json(const std::string& dir, std::vector<std::string>& notes);

/// Writes tokenizer.json, tokenizer_config.json and special_tokens_map.json into `dir`, which exists, such that
/// `transformers` and `tokenizers` give the ids that ByteBpeTokenizer gives. The same model gives the same bytes.
void write_tokenizer_json(const std::string& dir, const BpeModel& model);

/// The id of each single byte. Fails when one is missing.
std::vector<std::int32_t> byte_ids(const BpeModel& model);

}  // namespace dujiang::data
