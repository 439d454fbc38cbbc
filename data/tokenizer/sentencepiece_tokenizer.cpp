#include "data/tokenizer/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>

#include "data/text/sha256.h"
#include "data/text/utf8.h"
#include "framework/base/check.h"

namespace dujiang::data {

namespace {

constexpr std::string_view space_mark = "\xE2\x96\x81";  // U+2581

std::string with_spaces(std::string_view piece) {
  std::string out;
  for (std::size_t pos; (pos = piece.find(space_mark)) != piece.npos; piece.remove_prefix(pos + space_mark.size())) {
    out.append(piece.substr(0, pos)) += ' ';
  }
  return out.append(piece);
}

}  // namespace

SentencePieceTokenizer::SentencePieceTokenizer(const std::string& model_path)
    : processor_(std::make_unique<sentencepiece::SentencePieceProcessor>()), sha256_(sha256_file(model_path)) {
  const auto status = processor_->Load(model_path);
  if (!status.ok()) fail_user("{}: not a SentencePiece model: {}", model_path, status.message());
  const int size = processor_->GetPieceSize();
  byte_ids_.fill(-1);
  for (int id = 0; id < size; ++id) {
    const std::string& piece = processor_->IdToPiece(id);
    if (processor_->IsByte(id)) {
      const int value = std::stoi(piece.substr(3, 2), nullptr, 16);  // "<0x0A>"
      byte_ids_[static_cast<std::size_t>(value)] = id;
      bytes_.emplace_back(1, static_cast<char>(value));
      kinds_.push_back(Kind::byte);
    } else if (processor_->IsControl(id) || processor_->IsUnknown(id)) {
      bytes_.emplace_back();
      kinds_.push_back(Kind::special);
    } else {
      if (piece.find('\n') != piece.npos)
        fail_user("{}: piece {} holds a newline, which is not supported", model_path, id);
      bytes_.push_back(with_spaces(piece));
      kinds_.push_back(Kind::normal);
    }
  }
  for (const std::int32_t id : byte_ids_) {
    if (id < 0) fail_user("{}: the model has no byte fallback; train it with byte_fallback", model_path);
  }
  const auto valid = [&](int id) { return id >= 0 && id < size ? id : -1; };
  bos_ = valid(processor_->bos_id());
  eos_ = valid(processor_->eos_id());
  unk_ = valid(processor_->unk_id());
  pad_ = valid(processor_->pad_id());
  check_gives_text_back(model_path);
}

SentencePieceTokenizer::~SentencePieceTokenizer() = default;

// Models by others may prepend a space, join spaces or normalise by NFKC: such text can't be given back.
void SentencePieceTokenizer::check_gives_text_back(const std::string& model_path) const {
  for (const std::string_view probe :
       {"a", " a  b ", "，！Ａ１", "a\tb", "㍿ﾊ\xEF\xA4\x80", "e\xCC\x81", "\xE2\x96\x81"}) {
    const std::string back = decode(encode(probe));
    if (back != probe) {
      fail_user(
          "{}: the model normalises text (\"{}\" comes back as \"{}\"); Dujiang needs identity normalisation without "
          "a dummy prefix, as `dujiang tokenizer train` makes",
          model_path, probe, back);
    }
  }
}

std::vector<std::int32_t> SentencePieceTokenizer::encode(std::string_view text) const {
  const std::size_t valid = utf8_valid_prefix(text);
  if (valid != text.size()) fail_user("tokenizer: the text isn't UTF-8 at byte offset {}", valid);
  std::vector<std::int32_t> ids;
  std::vector<int> part_ids;
  const auto emit_byte = [&](char byte) { ids.push_back(byte_ids_[static_cast<unsigned char>(byte)]); };
  const auto emit_part = [&](std::string_view part) {
    if (part.empty()) return;
    const auto status = processor_->Encode(part, &part_ids);
    DUJIANG_CHECK(status.ok(), "tokenizer: SentencePiece fails to encode: {}", status.message());
    ids.insert(ids.end(), part_ids.begin(), part_ids.end());
  };
  std::size_t begin = 0;
  for (std::size_t pos = 0; pos < text.size();) {
    if (text[pos] == '\n') {
      emit_part(text.substr(begin, pos - begin));
      emit_byte('\n');
      begin = ++pos;
    } else if (text[pos] == space_mark[0] && text.substr(pos, space_mark.size()) == space_mark) {
      emit_part(text.substr(begin, pos - begin));
      for (const char byte : space_mark) emit_byte(byte);
      begin = pos += space_mark.size();
    } else {
      ++pos;
    }
  }
  emit_part(text.substr(begin));
  return ids;
}

std::string_view SentencePieceTokenizer::token_bytes(std::int32_t id) const {
  if (id < 0 || id >= vocab_size()) fail_user("tokenizer: id {} is outside the vocabulary of {}", id, vocab_size());
  return bytes_[static_cast<std::size_t>(id)];
}

const std::string& SentencePieceTokenizer::piece(std::int32_t id) const {
  return processor_->IdToPiece(id);
}

float SentencePieceTokenizer::score(std::int32_t id) const {
  return processor_->GetScore(id);
}

std::unique_ptr<SentencePieceTokenizer> load_sentencepiece(const std::string& model_path) {
  return std::make_unique<SentencePieceTokenizer>(model_path);
}

}  // namespace dujiang::data
