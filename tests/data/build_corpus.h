#pragma once
// A made-up corpus with all that a build meets.

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "framework/base/check.h"
#include "tests/data/dedup_fixture.h"
#include "tests/support/gzip.h"

namespace dujiang::data {

namespace fs = std::filesystem;
using nlohmann::json;

inline const std::string repeated_line = "本站内容均来自网友分享。";
inline const std::string phrase = "点击此处下载全文";

inline std::string json_line(const std::string& text) {
  return json{{"text", text}}.dump() + "\n";
}

/// Documents of families: an original of 120 characters, copies of it, and copies of which one character differs.
class Families {
 public:
  explicit Families(std::uint64_t seed) : dice_(seed) {}
  Dice& dice() { return dice_; }

  std::string original() {
    texts_.push_back(random_characters(dice_, 120));
    return told(utf8(texts_.back()), texts_.size() - 1);
  }
  /// Of a random family.
  std::string copy() {
    const auto family = dice_.below(texts_.size());
    return told(utf8(texts_[family]), family);
  }
  std::string near_copy() {
    const auto family = dice_.below(texts_.size());
    std::u32string text = texts_[family];
    text[10 + dice_.below(100)] = U'龘';  // not among the characters of originals
    return told(utf8(text), family);
  }
  std::size_t size() const { return texts_.size(); }
  /// By text.
  const std::map<std::string, std::size_t>& family() const { return family_; }

 private:
  std::string told(std::string text, std::size_t family) {
    family_[text] = family;
    return text;
  }

  Dice dice_;
  std::vector<std::u32string> texts_;
  std::map<std::string, std::size_t> family_;
};

/// A document as a corpus has them: mostly originals, among them twins, short ones, repeated lines, unwanted lines.
inline std::string some_document(Families& families) {
  if (families.size() == 0) return families.original();
  switch (families.dice().below(10)) {
    case 0:
      return families.copy();
    case 1:
      return families.near_copy();
    case 2:
      return "太短了。";
    case 3:
      return families.original() + "\n" + repeated_line;
    case 4:
      return repeated_line + "\n" + utf8(random_characters(families.dice(), 9));
    case 5:
      return phrase + "\n" + families.original();
    default:
      return families.original();
  }
}

/// `documents` documents a file in jsonl, gzipped jsonl and text, some of which can't be made text of.
inline void write_corpus(const fs::path& folder, Families& families, int files, int documents) {
  fs::create_directories(folder);
  for (int f = 0; f < files; ++f) {
    const bool lines = f % 3 != 2, gz = f % 3 == 1;
    std::string bytes;
    for (int d = 0; d < documents; ++d) {
      const bool broken = families.dice().below(12) == 0;
      if (lines)
        bytes += broken ? "{\"text\": \n" : json_line(some_document(families));
      else
        bytes += (broken ? std::string("\x81\xFF\xFF\x80\xFF\xFE\xFD") : some_document(families)) + "\n====\n";
    }
    const std::string name = fmt::format("{:02}{}", f, gz ? ".jsonl.gz" : lines ? ".jsonl" : ".txt");
    std::ofstream(folder / name, std::ios::binary) << (gz ? test::gzip(bytes) : bytes);
  }
}

}  // namespace dujiang::data
