#pragma once
// A piece: the documents of some consecutive input, in one file. Written once, then read at random through a mapping.
// Pieces are a build's intermediate files: of one machine's byte order, and not kept.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/corpus/document.h"

namespace dujiang::data {

class PieceWriter {
 public:
  void add(const TextDocument& document);
  std::size_t documents() const { return records_.size(); }
  /// Bytes of text so far.
  std::size_t bytes() const { return text_.size(); }
  /// Writes the file, whole or not at all. UserError naming it.
  void write(const std::filesystem::path& path) const;

  /// What a document's text lies between, and what else is known of it.
  struct Record {
    std::uint64_t begin, end;  // in the text of the piece
    std::uint64_t offset, bytes;
    std::uint32_t source, file;
    float quality;
    std::uint8_t encoding, script;
    std::uint16_t unused;
  };

 private:
  std::vector<Record> records_;
  std::string text_;
};

class PieceReader {
 public:
  /// Maps the file. UserError naming it when it can't be opened or isn't a whole piece.
  explicit PieceReader(const std::filesystem::path& path);
  ~PieceReader();
  PieceReader(PieceReader&& other) noexcept;
  PieceReader& operator=(PieceReader&&) = delete;

  std::size_t documents() const { return records_.size(); }
  /// Valid while the reader lives.
  std::string_view text(std::size_t document) const {
    const auto& record = records_[document];
    return text_.substr(record.begin, record.end - record.begin);
  }
  /// With a copy of the text.
  TextDocument document(std::size_t document) const;
  std::span<const PieceWriter::Record> records() const { return records_; }

 private:
  void* map_ = nullptr;
  std::size_t size_ = 0;
  std::span<const PieceWriter::Record> records_;
  std::string_view text_;
};

}  // namespace dujiang::data
