#pragma once
// The pre-tokenisations of well-known byte-level BPE tokenizers: where text is cut before pairs are merged.

#include <cstddef>
#include <string_view>

namespace dujiang::data {

enum class PretokenizerKind {
  gpt2,         ///< contractions, letters, numbers, other characters, each with one space before
  llama3,       ///< any case of contractions, numbers in threes, line breaks kept together
  qwen2,        ///< Llama 3's with single digits; Qwen3 has the same
  deepseek_v3,  ///< numbers in threes, then Han and kana, then words with combining marks
};

/// "gpt2", "llama3", "qwen2", "deepseek_v3".
std::string_view name_of(PretokenizerKind kind);
/// UserError with the names there are when there is none of this name.
PretokenizerKind pretokenizer_kind(std::string_view name);

/// `\w` of Unicode's regular expressions: letters, marks, digits, connectors.
bool is_word_char(char32_t c);

/// Cuts as the regular expressions of the models' own files do, in linear time. Cheap to copy; const members may be
/// called from several threads at once.
class Pretokenizer {
 public:
  explicit Pretokenizer(PretokenizerKind kind);
  PretokenizerKind kind() const { return kind_; }

  /// The end of the piece that starts at byte `begin` < text.size() of valid UTF-8 text; `begin` is 0 or the end of a
  /// piece of this text. Pieces are never empty and cover the text.
  std::size_t piece_end(std::string_view text, std::size_t begin) const { return scan_(*classes_, text, begin); }

  /// Calls f(piece) for each piece in order.
  template <class F>
  void for_each_piece(std::string_view text, F&& f) const {
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = piece_end(text, begin);
      f(text.substr(begin, end - begin));
      begin = end;
    }
  }

 private:
  struct Classes;  // of all characters
  template <PretokenizerKind>
  static std::size_t scan(const Classes& classes, std::string_view text, std::size_t begin);

  PretokenizerKind kind_;
  const Classes* classes_;
  std::size_t (*scan_)(const Classes&, std::string_view, std::size_t);
};

}  // namespace dujiang::data
