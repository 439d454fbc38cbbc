#pragma once
// A file's documents as raw bytes, one after the other, in little memory whatever the file holds.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/corpus/read/file_fault.h"
#include "data/corpus/read/input.h"
#include "data/corpus/step.h"
#include "data/text/decode.h"

namespace dujiang::data {

/// automatic goes by the extension, a final .gz, .zst or .xz aside: .jsonl, .ndjson, .json (a document a line); .csv;
/// .tsv; .md, .markdown; .html, .htm, .xhtml; .1 to .8, .3pm and the like, .n (man); else text.
/// text: the file is one document, or those between lines that equal the separator. fortune: text between lines that
/// hold only `%`. csv, tsv: RFC 4180 with a header row; a document is a row. man: roff source of a manual page.
enum class Format { automatic, text, markdown, html, man, fortune, jsonl, csv, tsv };

/// The format of a config's word (auto, text, markdown, html, man, fortune, jsonl, csv, tsv); UserError otherwise.
Format parse_format(std::string_view word);
/// Never automatic.
Format format_of(const std::string& path, Format asked);

struct ReadConfig {
  Format format = Format::automatic;
  std::string separator{};                               // text: a line between documents; empty: one document
  std::string field = "text";                            // csv, tsv: the column's name
  std::uint64_t max_document = std::uint64_t{64} << 20;  // raw bytes; longer ones are faults
  double max_expansion = 250;                            // of a compressed file, from 64 MiB of content on; 0: any
};

struct RawDocument {
  std::string bytes;
  std::uint64_t offset = 0;     // of its first byte in the decompressed file
  std::uint64_t raw_bytes = 0;  // in that file: as bytes.size(), but for UTF-16 and for faults
  std::uint64_t line = 0;       // on which it begins, from 1
  Format format = Format::text;
  int column = -1;          // csv, tsv: of the text
  bool from_utf16 = false;  // bytes are UTF-8 made of UTF-16, lone surrogates as three bytes
  /// too_long: its bytes weren't kept.
  std::optional<Rejection> fault;
};

class DocumentReader {
 public:
  /// digest: whether to compute it.
  DocumentReader(std::string path, const ReadConfig& config, bool digest = false);

  /// The next document that isn't blank; false at the end, or where the file's fault is.
  bool next(RawDocument& document);
  /// After next() gave false: what is wrong with the file, if anything.
  const std::optional<FileFault>& fault() const { return fault_; }
  /// After next() gave false: the SHA-256 of the file as it is on disk, if it was asked for and could be read.
  const std::optional<std::string>& digest() const { return digest_; }
  /// Of the decompressed file so far: documents and what lies between them.
  std::uint64_t bytes() const { return offset_; }

 private:
  struct Line {
    std::string head;  // its first bytes, as many as the separator may have
    std::uint64_t bytes = 0;
  };

  void open();
  bool fill();
  void refuse_binary(std::string_view head) const;
  void read_header();
  bool read_line(Line& line);
  void read_rest();
  void keep(std::string_view bytes);
  void scan_quotes(std::string_view bytes);
  bool next_record();

  std::string path_;
  ReadConfig config_;
  Format format_;
  char delimiter_ = ',';
  std::optional<Sha256> sha256_;
  std::optional<std::string> digest_;
  std::optional<ByteStream> stream_;
  std::optional<FileFault> fault_;
  bool ended_ = false;

  std::vector<char> block_;
  std::optional<Utf16Transcoder> utf16_;
  std::string transcoded_;
  std::string_view rest_;  // of the block, still to be split

  std::string record_;
  std::uint64_t record_bytes_ = 0;  // as in the file
  bool too_long_ = false;
  int column_ = -1;
  std::uint64_t offset_ = 0, line_ = 1;
  // csv: where in a record the scan is
  enum class Quote { field_start, plain, quoted, after_quote } quote_ = Quote::field_start;
};

/// Splits a CSV record (without its final newline) into fields, quotes resolved.
std::vector<std::string> split_csv(std::string_view record, char delimiter);

}  // namespace dujiang::data
