#pragma once
// What a tokenizer makes of texts.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/tokenizer/document_sample.h"
#include "data/tokenizer/tokenizer.h"

namespace dujiang::data {

/// A text, and where it comes from.
struct SourceText {
  std::string_view text;
  std::uint32_t source = 0;
};

struct TokenizerReport {
  struct Text {
    std::string name;
    std::int64_t documents = 0, bytes = 0, chars = 0, tokens = 0;
    /// 0 where there is no text.
    double chars_per_token() const { return tokens ? static_cast<double>(chars) / static_cast<double>(tokens) : 0; }
  };
  /// Han characters, and how many of them are one token each.
  struct Han {
    std::int64_t chars = 0, single = 0;
    double share() const { return chars ? static_cast<double>(single) / static_cast<double>(chars) : 0; }
  };

  Text all;                             ///< nameless
  std::vector<Text> sources, genres;    ///< those that have text; genres by name
  std::int64_t vocab_size = 0;          ///< with special ids
  std::int64_t pieces = 0, unused = 0;  ///< ids of more than a byte; those of them that no text used
  Han level1, level2;                   ///< of GB 2312: the 3,755 common characters, the 3,008 less common
  Han distinct, occurrences;            ///< of the texts
  std::int64_t long_chars = 0;          ///< "long": more than so many characters
  std::int64_t long_tokens = 0;
  std::vector<std::string> longest;  ///< the longest of them, ten at most
};

/// Error when a text isn't UTF-8. The figures don't depend on `threads`.
TokenizerReport report_tokenizer(const Tokenizer& tokenizer, std::span<const TextSource> sources,
                                 std::span<const SourceText> texts, int threads, std::int64_t long_chars = 8);

/// The characters of GB 2312's levels: rows 16 to 55 and 56 to 87, as ICU's converter has them.
std::pair<std::u32string, std::u32string> gb2312_levels();

}  // namespace dujiang::data
