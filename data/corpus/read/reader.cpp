#include "data/corpus/read/reader.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <utility>

namespace dujiang::data {
namespace {

constexpr std::size_t block_bytes = std::size_t{1} << 18;
constexpr std::array<std::string_view, 9> format_words{"auto",    "text",  "markdown", "html", "man",
                                                       "fortune", "jsonl", "csv",      "tsv"};

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == text.npos;
}

// What the file is by its first bytes, if it isn't text; these names' bytes don't begin any Chinese text.
std::string_view known_binary(std::string_view head) {
  using namespace std::string_view_literals;
  constexpr std::pair<std::string_view, std::string_view> magic[] = {
      {"%PDF-"sv, "a PDF file"},
      {"PK\x03\x04"sv, "a zip archive or office document"},
      {"\x7F"
       "ELF"sv,
       "a program"},
      {"\x89PNG\r\n"sv, "a PNG image"},
      {"\xFF\xD8\xFF"sv, "a JPEG image"},
      {"GIF8"sv, "a GIF image"},
      {"SQLite format 3\0"sv, "an SQLite database"},
      {"\x89HDF\r\n"sv, "an HDF5 file"},
      {"BZh91AY&SY"sv, "bzip2 data"},
      {"7z\xBC\xAF\x27\x1C"sv, "a 7z archive"},
      {"Rar!\x1A\x07"sv, "a RAR archive"},
      {"\xD0\xCF\x11\xE0\xA1\xB1"sv, "an old office document"},
      {"PAR1"sv, "a Parquet file"},
      {"\x04\x22\x4D\x18"sv, "lz4 data"},
      {"{\\rtf"sv, "an RTF document"}};
  for (const auto& [bytes, what] : magic) {
    if (head.starts_with(bytes)) return what;
  }
  return {};
}

bool is_control(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte < 0x20 && !(byte >= '\b' && byte <= '\r') && byte != 0x1B;
}

}  // namespace

Format parse_format(std::string_view word) {
  const auto found = std::find(format_words.begin(), format_words.end(), word);
  if (found == format_words.end())
    fail_user("source: format is one of {}, found \"{}\"", fmt::join(format_words, ", "), word);
  return static_cast<Format>(found - format_words.begin());
}

Format format_of(const std::string& path, Format asked) {
  if (asked != Format::automatic) return asked;
  std::filesystem::path name = std::filesystem::path(path).filename();
  for (const char* packed : {".gz", ".zst", ".xz"}) {
    if (name.extension() == packed) {
      name = name.stem();
      break;
    }
  }
  const std::string extension = name.extension().string();
  constexpr std::pair<std::string_view, Format> known[] = {
      {".jsonl", Format::jsonl},       {".ndjson", Format::jsonl}, {".json", Format::jsonl},
      {".csv", Format::csv},           {".tsv", Format::tsv},      {".md", Format::markdown},
      {".markdown", Format::markdown}, {".html", Format::html},    {".htm", Format::html},
      {".xhtml", Format::html},        {".n", Format::man}};
  for (const auto& [ending, format] : known) {
    if (extension == ending) return format;
  }
  // A manual section: a digit and perhaps letters (.1, .3pm).
  const bool section = extension.size() > 1 && extension[1] >= '1' && extension[1] <= '8' &&
                       std::all_of(extension.begin() + 2, extension.end(), [](char c) { return c >= 'a' && c <= 'z'; });
  return section ? Format::man : Format::text;
}

std::vector<std::string> split_csv(std::string_view record, char delimiter) {
  std::vector<std::string> out(1);
  while (!record.empty() && (record.back() == '\n' || record.back() == '\r')) record.remove_suffix(1);
  bool quoted = false, begun = false;
  for (std::size_t i = 0; i < record.size(); ++i) {
    const char c = record[i];
    if (quoted) {
      if (c != '"') {
        out.back() += c;
      } else if (i + 1 < record.size() && record[i + 1] == '"') {
        out.back() += record[++i];
      } else {
        quoted = false;
      }
    } else if (c == delimiter) {
      out.emplace_back();
      begun = false;
    } else if (c == '"' && !begun) {
      quoted = begun = true;
    } else {
      out.back() += c;
      begun = true;
    }
  }
  return out;
}

DocumentReader::DocumentReader(std::string path, const ReadConfig& config, bool digest)
    : path_(std::move(path)), config_(config), format_(format_of(path_, config.format)), block_(block_bytes) {
  if (digest) sha256_.emplace();
  if (format_ == Format::tsv) delimiter_ = '\t';
  if (format_ == Format::fortune) config_.separator.assign(1, '%');
}

bool DocumentReader::next(RawDocument& document) {
  if (ended_) return false;
  try {
    if (!stream_) open();
    for (;;) {
      document = {};
      document.offset = offset_;
      document.line = line_;
      if (!next_record()) break;
      if (!too_long_ && is_blank(record_)) continue;
      document.raw_bytes = record_bytes_;
      document.format = format_;
      document.column = column_;
      document.from_utf16 = utf16_.has_value();
      if (too_long_) {
        document.fault = Rejection{"too_long", static_cast<double>(record_bytes_),
                                   static_cast<double>(config_.max_document), fmt::format("line {}", document.line)};
      }
      document.bytes = std::move(record_);
      return true;
    }
    stream_->check_unchanged();
  } catch (const FileError& error) {
    fault_ = FileFault{path_, offset_, error.rule(), error.what()};
  }
  ended_ = true;
  if (sha256_ && stream_) try {
      stream_->drain();  // behind a fault, or behind the data that a format ends with
      digest_ = sha256_->hex();
    } catch (const FileError&) {
      // Of a file that can't be read to its end there is none.
    }
  stream_.reset();
  return false;
}

void DocumentReader::open() {
  stream_.emplace(path_, config_.max_expansion, sha256_ ? &*sha256_ : nullptr);
  std::size_t got = 0;
  while (got < block_.size()) {  // a first block that is full, so that what is judged by it doesn't vary
    const std::size_t more = stream_->read(block_.data() + got, block_.size() - got);
    if (more == 0) break;
    got += more;
  }
  const std::string_view head(block_.data(), got);
  const auto order = utf16_order(head);
  if (!order) {
    refuse_binary(head);
    rest_ = head;
  } else {
    utf16_.emplace(*order);
    utf16_->append(head, transcoded_);
    rest_ = transcoded_;
  }
  if (format_ == Format::csv || format_ == Format::tsv) read_header();
}

void DocumentReader::refuse_binary(std::string_view head) const {
  const auto fail = [&](std::string_view what) {
    throw FileError(
        "binary", fmt::format("{}: {}, expected text; take it out of the source's files", printable_path(path_), what));
  };
  const std::string_view known = known_binary(head);
  if (!known.empty()) fail(known);
  // Some text has stray NULs and control characters; one byte in a hundred, or in twenty, isn't stray.
  const auto nuls = static_cast<std::size_t>(std::count(head.begin(), head.end(), '\0'));
  const auto controls = static_cast<std::size_t>(std::count_if(head.begin(), head.end(), is_control));
  if (nuls * 100 > head.size() + 400) fail(fmt::format("{} NUL bytes among the first {}", nuls, head.size()));
  if (controls * 20 > head.size() + 400)
    fail(fmt::format("{} control bytes among the first {}", controls, head.size()));
}

void DocumentReader::read_header() {
  if (!next_record()) return;
  const Decoded header = decode(record_);
  const std::vector<std::string> names = split_csv(header.fault ? record_ : header.text, delimiter_);
  const auto found = std::find(names.begin(), names.end(), config_.field);
  if (found == names.end())
    throw FileError("no_field", fmt::format("{}: the header has no column \"{}\"; it has {}", printable_path(path_),
                                            config_.field, printable_path(fmt::format("{}", fmt::join(names, ", ")))));
  column_ = static_cast<int>(found - names.begin());
}

// More bytes in rest_; false at the end.
bool DocumentReader::fill() {
  while (rest_.empty()) {
    const std::size_t got = stream_->read(block_.data(), block_.size());
    rest_ = {block_.data(), got};
    if (!utf16_) return got > 0;
    transcoded_.clear();
    if (got > 0) {
      utf16_->append(rest_, transcoded_);
    } else if (!utf16_->finish(transcoded_)) {
      throw FileError("truncated", fmt::format("{}: UTF-16 text that ends within a character", printable_path(path_)));
    }
    rest_ = transcoded_;
    if (got == 0) return !rest_.empty();
  }
  return true;
}

void DocumentReader::keep(std::string_view bytes) {
  const std::uint64_t in_file = utf16_ ? Utf16Transcoder::source_bytes(bytes) : bytes.size();
  offset_ += in_file;
  record_bytes_ += in_file;
  too_long_ = record_bytes_ > config_.max_document;
  if (too_long_) {
    std::string().swap(record_);
  } else {
    record_ += bytes;
  }
}

// Adds a line with its newline to the record.
bool DocumentReader::read_line(Line& line) {
  line = {};
  const std::size_t head_bytes = config_.separator.size() + 2;
  while (fill()) {
    const std::size_t newline = rest_.find('\n');
    const std::string_view part = rest_.substr(0, newline == rest_.npos ? rest_.size() : newline + 1);
    if (line.head.size() < head_bytes) line.head += part.substr(0, head_bytes - line.head.size());
    line.bytes += part.size();
    keep(part);
    if (format_ == Format::csv || format_ == Format::tsv) scan_quotes(part);
    rest_.remove_prefix(part.size());
    if (newline != rest_.npos) break;
  }
  line_ += line.bytes > 0;
  return line.bytes > 0;
}

void DocumentReader::read_rest() {
  while (fill()) {
    keep(rest_);
    rest_ = {};
  }
}

void DocumentReader::scan_quotes(std::string_view bytes) {
  for (const char c : bytes) {
    if (quote_ == Quote::quoted) {
      if (c == '"') quote_ = Quote::after_quote;
    } else if (c == delimiter_ || c == '\n') {
      quote_ = Quote::field_start;
    } else if (c == '"' && quote_ != Quote::plain) {  // opens a field, or is the second of two within it
      quote_ = Quote::quoted;
    } else {
      quote_ = Quote::plain;
    }
  }
}

// The next document's bytes in record_; false at the end of the file.
bool DocumentReader::next_record() {
  record_.clear();
  record_bytes_ = 0;
  too_long_ = false;
  Line line;
  switch (format_) {
    case Format::jsonl:
      return read_line(line);
    case Format::csv:
    case Format::tsv:
      quote_ = Quote::field_start;
      if (!read_line(line)) return false;
      // A quote that nothing closes would take the rest of the file: it ends where it got too long.
      while (quote_ == Quote::quoted && !too_long_ && read_line(line)) {
      }
      return true;
    case Format::text:
    case Format::fortune:
      if (!config_.separator.empty()) break;
      [[fallthrough]];
    default:
      read_rest();
      return record_bytes_ > 0;
  }
  for (;;) {
    const std::uint64_t record_before = record_bytes_;
    const std::size_t kept_before = record_.size();
    if (!read_line(line)) return record_bytes_ > 0;
    while (!line.head.empty() && (line.head.back() == '\n' || line.head.back() == '\r')) line.head.pop_back();
    if (line.head != config_.separator) continue;
    // The separator belongs to no document.
    record_bytes_ = record_before;
    if (!too_long_) record_.resize(kept_before);
    return true;
  }
}

}  // namespace dujiang::data
