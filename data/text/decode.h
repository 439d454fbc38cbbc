#pragma once
// From bytes of unknown encoding to UTF-8, strictly: every byte belongs to a character or the text is refused.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "data/text/encoding.h"

namespace dujiang::data {

/// What is known of the encoding beforehand. A guess (a page's charset, say) decides where the bytes don't; a certain
/// one is the only one tried, and its text may be of any characters.
struct DecodeHint {
  std::optional<Encoding> encoding{};
  bool certain = false;
};

struct DecodeFault {
  std::string rule;        // undecodable, implausible_encoding, replacement_character
  std::size_t offset = 0;  // of the first byte that fits no character
  std::string message;     // "not UTF-8 at byte offset 17 (byte 0xFF)"
};

struct Decoded {
  Encoding encoding = Encoding::utf8;
  std::string text;  // UTF-8 without byte order mark; empty with a fault
  std::optional<DecodeFault> fault;
};

/// A byte order mark decides; then zero bytes as UTF-16 text has them; then UTF-8 if all is valid; else GB18030 (the
/// mapping of the 2022 edition; GBK and GB2312 are parts of it) or Big5 (with HKSCS, without user-defined codes), the
/// one that is valid and has the more frequent characters. Text that is UTF-8 but for some bytes is refused as such,
/// and bytes that are no plausible Chinese in any encoding (Shift-JIS, EUC-KR, Latin-1) as implausible_encoding.
/// U+FFFD is refused in every encoding: it stands for a character that is lost. Private-use code points and
/// noncharacters pass as the encoding has them.
Decoded decode(std::string_view bytes, const DecodeHint& hint = {});

/// The encoding that an HTML page or a config names (gbk, gb2312, big5-hkscs, utf-8, ...); none for others.
std::optional<Encoding> encoding_of_name(std::string_view name);

/// UTF-8, UTF-16, GB18030, Big5.
std::string_view name_of(Encoding encoding);

enum class Utf16Order { little, big };

/// The byte order when these first bytes of a text are UTF-16: by the mark, or by zero bytes in letters, blanks and
/// line ends with plausible characters around them. (UTF-32's mark is not one of UTF-16.)
std::optional<Utf16Order> utf16_order(std::string_view head);

/// UTF-16 to UTF-8, chunk by chunk.
class Utf16Transcoder {
 public:
  explicit Utf16Transcoder(Utf16Order order) : order_(order) {}
  /// Appends whole characters. A surrogate without its partner becomes three bytes that no UTF-8 decoder accepts.
  void append(std::string_view bytes, std::string& out);
  /// Appends what a cut pair left. False: a single byte is left over, the text is cut short.
  bool finish(std::string& out);
  /// How many bytes of UTF-16 became this text that append() made.
  static std::uint64_t source_bytes(std::string_view text);

 private:
  Utf16Order order_;
  int odd_byte_ = -1;
  char32_t high_ = 0;
};

}  // namespace dujiang::data
