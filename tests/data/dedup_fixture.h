#pragma once
// Made-up Chinese texts in pieces, and what deduplication makes of them.

#include <atomic>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "data/corpus/dedup/dedup.h"
#include "data/corpus/dedup/shuffle.h"
#include "data/corpus/piece_file.h"
#include "data/text/utf8.h"
#include "framework/base/philox.h"
#include "tests/support/temp_folder.h"

namespace dujiang::data {

using test::TempFolder;
using Texts = std::vector<std::string>;

/// Random numbers one after the other.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : random_(seed, 5) {}
  std::uint64_t below(std::uint64_t bound) { return random_.below(draw_++, bound); }
  bool chance(double p) { return random_.uniform(draw_++) < p; }

 private:
  Philox random_;
  std::uint64_t draw_ = 0;
};

inline std::u32string random_characters(Dice& dice, std::size_t count) {
  std::u32string text;
  for (std::size_t i = 0; i < count; ++i) text += static_cast<char32_t>(0x4E00 + dice.below(3000));
  return text;
}

/// Each character replaced, left out or followed by another with probability `rate` in all.
inline std::u32string edited(Dice& dice, const std::u32string& text, double rate) {
  std::u32string out;
  for (const char32_t c : text) {
    const auto kind = dice.chance(rate) ? dice.below(3) : 3;
    if (kind != 0 && kind != 1) out += c;
    if (kind == 1 || kind == 2) out += random_characters(dice, 1);
  }
  return out;
}

inline std::string utf8(const std::u32string& text) {
  std::string out;
  for (const char32_t c : text) append_utf8(out, c);
  return out;
}

/// Tasks in two threads, from the last to the first.
inline void two_threads_backwards(std::uint64_t n, const std::function<void(std::uint64_t)>& task) {
  std::atomic<std::uint64_t> next = 0;
  const auto work = [&] {
    for (std::uint64_t i; (i = next++) < n;) task(n - 1 - i);
  };
  std::jthread other(work);
  work();
}

inline void one_by_one(std::uint64_t n, const std::function<void(std::uint64_t)>& task) {
  for (std::uint64_t i = 0; i < n; ++i) task(i);
}

/// Texts in pieces of `piece_size` documents, in a folder of their own. Sources 0, 1, 2, 0 ..., qualities 0, 5, 10, 4
/// ...
class Corpus {
 public:
  Corpus(const Texts& texts, std::size_t piece_size, std::uint32_t partitions) : piece_size_(piece_size) {
    for (std::size_t begin = 0; begin < texts.size(); begin += piece_size) {
      PieceWriter piece;
      for (std::size_t d = begin; d < std::min(begin + piece_size, texts.size()); ++d) {
        TextDocument document;
        document.text = texts[d];
        document.source = static_cast<std::uint32_t>(d % 3);
        document.quality = static_cast<float>(d * 5 % 11);
        piece.add(document);
      }
      piece.write(folder_.path() / ("texts-" + std::to_string(work.pieces++)));
    }
    work.folder = folder_.path();
    work.partitions = partitions;
    work.texts = [this](std::uint64_t piece) { return folder_.path() / ("texts-" + std::to_string(piece)); };
  }

  std::size_t number(DocumentId id) const { return piece_of(id) * piece_size_ + index_of(id); }
  DocumentId id(std::size_t number) const { return document_id(number / piece_size_, number % piece_size_); }

  std::vector<Edge> edges() const {
    std::vector<Edge> all;
    for (std::uint64_t p = 0; p < work.partitions; ++p)
      SectionReader(work.file(near_edges, p), sizeof(Edge)).append_section(0, all);
    return all;
  }

  /// Members by their documents' numbers, with the kept document's number in place of its id.
  std::map<std::size_t, Member> members() const {
    std::map<std::size_t, Member> all;
    for (std::uint64_t piece = 0; piece < work.pieces; ++piece) {
      for (auto member : read_members(work, piece)) {
        const auto number = this->number(document_id(piece, member.index));
        member.index = 0;
        member.kept = this->number(member.kept);
        DUJIANG_CHECK(all.emplace(number, member).second, "document {} is a member twice", number);
      }
    }
    return all;
  }

 private:
  TempFolder folder_;
  std::size_t piece_size_;

 public:
  DedupWork work;
};

inline bool operator==(const Member& a, const Member& b) {
  return a.cluster == b.cluster && a.kept == b.kept && a.index == b.index && a.similarity == b.similarity &&
         a.twin == b.twin;
}

}  // namespace dujiang::data
