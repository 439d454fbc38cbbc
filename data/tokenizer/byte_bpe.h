#pragma once
// Byte-level BPE: the tokenizers of GPT-2, Llama 3, Qwen2/3, DeepSeek-V3, and those that Dujiang trains.

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/tokenizer/added_tokens.h"
#include "data/tokenizer/bpe_merger.h"
#include "data/tokenizer/bpe_model.h"
#include "data/tokenizer/tokenizer.h"

namespace dujiang::data {

/// What to do with the text of a special token inside a text.
enum class Specials {
  as_text,  ///< it is text like any other: what corpora want
  match,    ///< it becomes the special id, as Hugging Face does unless told otherwise
};

/// Ids equal those of Hugging Face's `tokenizers` without its post-processor. Added tokens that aren't special are
/// matched in any case. Takes time linear in the text (times the logarithm of the longest piece).
class ByteBpeTokenizer final : public Tokenizer {
 public:
  /// `sha256` names the model; `notes` as read_tokenizer_json gives them.
  explicit ByteBpeTokenizer(BpeModel model, std::string sha256 = "", std::vector<std::string> notes = {});
  ~ByteBpeTokenizer() override;

  /// As Specials::as_text. With a model that normalises, decode gives the text's NFC by Unicode 9.
  std::vector<std::int32_t> encode(std::string_view text) const override;
  std::vector<std::int32_t> encode(std::string_view text, Specials specials) const;
  std::string_view token_bytes(std::int32_t id) const override;
  /// The highest id + 1.
  std::int32_t vocab_size() const override;
  std::int32_t bos_id() const override { return model_.bos; }
  std::int32_t eos_id() const override { return model_.eos; }
  std::int32_t unk_id() const override { return model_.unk; }
  std::int32_t pad_id() const override { return model_.pad; }
  const std::string& sha256() const override { return sha256_; }

  const BpeModel& model() const { return model_; }
  std::vector<std::string> notes() const override { return notes_; }

 private:
  struct Scratch;  // what one thread writes while it encodes

  void encode_part(std::string_view text, Specials specials, Scratch& scratch) const;
  void encode_text(std::string_view text, Scratch& scratch) const;
  std::unique_ptr<Scratch> take_scratch() const;

  BpeModel model_;
  std::string sha256_;
  std::vector<std::string> notes_;
  Pretokenizer pretokenizer_;
  BpeMerger merger_;
  AddedTokenFinder raw_, normalized_;
  std::unordered_map<std::string_view, std::int32_t> whole_;  // where a piece that is a token is taken as it is
  std::vector<std::string> bytes_;                            // by id
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Scratch>> idle_;  // guarded by mutex_
};

/// Loads `dir`/tokenizer.json (and tokenizer_config.json); the hash covers both.
std::unique_ptr<ByteBpeTokenizer> load_byte_bpe(const std::string& dir);

}  // namespace dujiang::data
