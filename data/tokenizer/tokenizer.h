#pragma once
// Text to token ids and back.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dujiang::data {

/// Ids are in [0, vocab_size()). Const members may be called from several threads at once.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Ids of the text alone: no bos or eos is added, and no text yields a special id. decode(encode(x)) == x for every
  /// valid UTF-8 x, or its NFC where the tokenizer normalises. UserError with the byte offset when the text isn't
  /// UTF-8.
  virtual std::vector<std::int32_t> encode(std::string_view text) const = 0;
  /// The bytes of one token: possibly part of a character; empty for special ids. Valid while the tokenizer lives.
  /// UserError when the id is out of range.
  virtual std::string_view token_bytes(std::int32_t id) const = 0;
  virtual std::int32_t vocab_size() const = 0;
  /// Special ids; -1 where the model has none. eos ends a document.
  virtual std::int32_t bos_id() const = 0;
  virtual std::int32_t eos_id() const = 0;
  virtual std::int32_t unk_id() const = 0;
  virtual std::int32_t pad_id() const = 0;
  /// Of the model file, 64 hexadecimal digits: shards carry it.
  virtual const std::string& sha256() const = 0;

  /// What a user should know once, one sentence each: that text is normalised, what of the files has no effect.
  virtual std::vector<std::string> notes() const { return {}; }

  /// The bytes of all tokens, joined. Ids that encode didn't make may give bytes that aren't UTF-8.
  std::string decode(std::span<const std::int32_t> ids) const;
};

/// Decodes token by token and hands out whole characters only. Bytes that can't become UTF-8 turn into U+FFFD.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  /// The text that is complete with this token; may be empty.
  std::string push(std::int32_t id);
  /// The end: U+FFFD where a character was left unfinished, else empty.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  std::string pending_;  // at most 3 bytes, the start of a character
};

/// Loads `dir`/tokenizer.model (SentencePiece) or else `dir`/tokenizer.json (byte-level BPE). UserError when there is
/// neither, when a SentencePiece model normalises text or lacks byte fallback (it could not give text back), or when
/// a tokenizer.json asks for anything that would give other ids here than with Hugging Face.
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& dir);

}  // namespace dujiang::data
