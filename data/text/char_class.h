#pragma once
// What kind of character it is, by one table over all of Unicode.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace dujiang::data {

/// Bits of a character's class.
struct CharClass {
  static constexpr std::uint8_t han = 1;     // is_han(), and all of planes 2 and 3, kept for Han
  static constexpr std::uint8_t letter = 2;  // alphabetic, Han too
  static constexpr std::uint8_t word = 4;    // letter, mark or digit of a script that writes words: not Han, not kana
  static constexpr std::uint8_t space = 8;   // white space, U+3000 and zero-width characters too
  static constexpr std::uint8_t sentence_end = 16;  // 。！？…；.!?; and the like
  static constexpr std::uint8_t closing = 32;       // quotes and brackets that may stand behind a sentence's end
  static constexpr std::uint8_t suspect = 64;       // seldom in sound text: see char_class.cpp
  static constexpr std::uint8_t code = 128;         // ASCII signs that programs are full of: {}()[]<>=;_$&*+\`"'
};

class CharClasses {
 public:
  /// Made from ICU's properties on first use.
  static const CharClasses& get();
  /// c: any Unicode scalar.
  std::uint8_t operator[](char32_t c) const { return classes_[std::size_t{pages_[c >> 8]} << 8 | (c & 0xFF)]; }

 private:
  CharClasses();
  std::vector<std::uint16_t> pages_;  // of 256 characters; equal pages are one
  std::vector<std::uint8_t> classes_;
};

}  // namespace dujiang::data
