#include "data/tokenizer/tokenizer.h"

#include <filesystem>

#include "data/text/utf8.h"
#include "data/tokenizer/byte_bpe.h"
#include "data/tokenizer/sentencepiece_tokenizer.h"
#include "framework/base/check.h"

namespace dujiang::data {

namespace {

constexpr std::string_view replacement = "\xEF\xBF\xBD";

// Could `bytes` become one valid character if more followed?
bool starts_char(std::string_view bytes) {
  const auto first = static_cast<unsigned char>(bytes[0]);
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || bytes.size() >= length) return false;
  // The second byte's range depends on the first; later bytes are free, so try the lowest and highest completion.
  std::string low(bytes), high(bytes);
  while (low.size() < length) {
    const bool second = low.size() == 1;
    low += second && first == 0xE0 ? '\xA0' : second && first == 0xF0 ? '\x90' : '\x80';
    high += '\x80';
  }
  return utf8_valid_prefix(low) == length || utf8_valid_prefix(high) == length;
}

}  // namespace

std::string Tokenizer::decode(std::span<const std::int32_t> ids) const {
  std::string out;
  for (const std::int32_t id : ids) out += token_bytes(id);
  return out;
}

std::string StreamDecoder::push(std::int32_t id) {
  pending_ += tokenizer_.token_bytes(id);
  std::string out;
  std::string_view rest = pending_;
  while (!rest.empty()) {
    const std::size_t valid = utf8_valid_prefix(rest);
    out += rest.substr(0, valid);
    rest.remove_prefix(valid);
    if (rest.empty()) break;
    // The longest start of a character stays pending when it is all there is; else it becomes one U+FFFD.
    std::size_t length = 0;
    while (length < std::min<std::size_t>(rest.size(), 3) && starts_char(rest.substr(0, length + 1))) ++length;
    if (length == rest.size()) break;
    out += replacement;
    rest.remove_prefix(std::max<std::size_t>(length, 1));
  }
  pending_ = std::string(rest);
  return out;
}

std::string StreamDecoder::finish() {
  const bool unfinished = !pending_.empty();
  pending_.clear();
  return std::string(unfinished ? replacement : std::string_view());
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& dir) {
  namespace fs = std::filesystem;
  const fs::path model = fs::path(dir) / "tokenizer.model";
  if (fs::exists(model)) return load_sentencepiece(model.string());
  if (fs::exists(fs::path(dir) / "tokenizer.json")) return load_byte_bpe(dir);
  fail_user("{}: neither tokenizer.model nor tokenizer.json here; make one with `dujiang tokenizer train`", dir);
}

}  // namespace dujiang::data
