#pragma once
// SentencePiece models, made to give back every byte.

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "data/tokenizer/tokenizer.h"

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace dujiang::data {

/// SentencePiece writes a space as U+2581 and can't tell it from a U+2581 in the text, and a byte piece never merges
/// with another. So the text is cut at newlines (which no piece holds) and at U+2581, which are emitted as byte pieces;
/// the cuts change no other id.
class SentencePieceTokenizer final : public Tokenizer {
 public:
  explicit SentencePieceTokenizer(const std::string& model_path);
  ~SentencePieceTokenizer() override;

  std::vector<std::int32_t> encode(std::string_view text) const override;
  std::string_view token_bytes(std::int32_t id) const override;
  std::int32_t vocab_size() const override { return static_cast<std::int32_t>(bytes_.size()); }
  std::int32_t bos_id() const override { return bos_; }
  std::int32_t eos_id() const override { return eos_; }
  std::int32_t unk_id() const override { return unk_; }
  std::int32_t pad_id() const override { return pad_; }
  const std::string& sha256() const override { return sha256_; }

  /// What a piece is and says, for export: the text with U+2581 for a space.
  enum class Kind { normal, byte, special };
  Kind kind(std::int32_t id) const { return kinds_[static_cast<std::size_t>(id)]; }
  const std::string& piece(std::int32_t id) const;
  float score(std::int32_t id) const;

 private:
  void check_gives_text_back(const std::string& model_path) const;

  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
  std::vector<std::string> bytes_;  // of each id
  std::vector<Kind> kinds_;
  std::array<std::int32_t, 256> byte_ids_;
  std::int32_t bos_, eos_, unk_, pad_;
  std::string sha256_;
};

std::unique_ptr<SentencePieceTokenizer> load_sentencepiece(const std::string& model_path);

}  // namespace dujiang::data
