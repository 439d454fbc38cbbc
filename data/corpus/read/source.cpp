#include "data/corpus/read/source.h"

#include <simdjson.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>

#include "data/corpus/read/input.h"
#include "data/corpus/read/markup.h"
#include "data/text/normalise.h"
#include "data/text/utf8.h"
#include "framework/base/check.h"

namespace dujiang::data {
inline namespace whole_sources {

namespace {

constexpr std::string_view bom = "\xEF\xBB\xBF";
constexpr std::array<std::string_view, 6> format_words{"auto", "text", "jsonl", "html", "man", "fortune"};

using Sink = std::function<void(RawDocument&&)>;

Format format_of(const std::string& path, Format asked) {
  if (asked != Format::automatic) return asked;
  std::filesystem::path name = std::filesystem::path(path).filename();
  if (name.extension() == ".gz" || name.extension() == ".zst") name = name.stem();
  const std::string extension = name.extension().string();
  if (extension == ".jsonl" || extension == ".ndjson") return Format::jsonl;
  if (extension == ".html" || extension == ".htm") return Format::html;
  // A manual section: a digit and perhaps letters (.1, .3pm), or n.
  const bool section = extension.size() > 1 && extension[1] >= '1' && extension[1] <= '8' &&
                       std::all_of(extension.begin() + 2, extension.end(), [](char c) { return c >= 'a' && c <= 'z'; });
  if (section || extension == ".n") return Format::man;
  return Format::text;
}

std::uint64_t drop_nul(std::string& text) {
  return std::erase(text, '\0');
}

// "\r\n" to "\n", in place.
void unix_newlines(std::string& text) {
  std::size_t out = 0;
  for (std::size_t in = 0; in < text.size(); ++in) {
    if (text[in] == '\r' && in + 1 < text.size() && text[in + 1] == '\n') continue;
    text[out++] = text[in];
  }
  text.resize(out);
}

void trim_blank_lines(std::string& text) {
  text.erase(text.find_last_not_of(" \t\n") + 1);
  const std::size_t first = text.find_first_not_of(" \t\n");
  if (first == text.npos) return;
  const std::size_t line = text.rfind('\n', first);
  if (line != text.npos) text.erase(0, line + 1);
}

// One source file being read: makes documents of byte ranges and hands them on.
class FileReader {
 public:
  FileReader(const SourceConfig& source, const std::string& path, const Sink& sink)
      : source_(source), path_(path), sink_(sink) {}

  void read(Format format) {
    switch (format) {
      case Format::jsonl:
        return read_lines();
      case Format::fortune:
        return read_records("%");
      case Format::html:
      case Format::man:
        return read_whole(format);
      default:
        return source_.separator.empty() ? read_whole(format) : read_records(source_.separator);
    }
  }

 private:
  void read_whole(Format format) {
    std::string text = read_all(path_);
    const std::uint64_t bytes = text.size();
    const std::size_t skip = text.starts_with(bom) ? bom.size() : 0;
    if (!check_utf8(text, 0)) return;
    text.erase(0, skip);
    RawDocument document = start(skip, bytes);
    document.nul_bytes = drop_nul(text);
    document.text = format == Format::html  ? html_to_text(text)
                    : format == Format::man ? roff_to_text(text)
                                            : std::move(text);
    hand_on(std::move(document));
  }

  // Documents between lines that equal `separator`; empty ones don't count.
  void read_records(std::string_view separator) {
    LineReader lines(path_);
    std::string line, text;
    std::uint64_t begin = 0, at = 0;
    const auto end_record = [&](std::uint64_t next) {
      if (text.find_first_not_of(" \t\r\n") != text.npos && check_utf8(text, begin)) {
        RawDocument document = start(begin, text.size());
        document.nul_bytes = drop_nul(text);
        document.text = std::move(text);
        hand_on(std::move(document));
      }
      text.clear();
      begin = next;
    };
    while (lines.next(line)) {
      if (at == 0 && line.starts_with(bom)) {
        line.erase(0, bom.size());
        begin = bom.size();
      }
      at = lines.offset();
      std::string_view content = line;
      while (!content.empty() && (content.back() == '\n' || content.back() == '\r')) content.remove_suffix(1);
      if (content == separator) {
        end_record(at);
      } else {
        text += line;
      }
    }
    end_record(at);
  }

  void read_lines() {
    LineReader lines(path_);
    simdjson::dom::parser parser;
    std::string line;
    std::uint64_t at = 0;
    for (std::uint64_t number = 1; lines.next(line); ++number) {
      const std::uint64_t begin = at;
      at = lines.offset();
      if (begin == 0 && line.starts_with(bom)) line.erase(0, bom.size());
      if (line.find_first_not_of(" \t\r\n") == line.npos || !check_utf8(line, at - line.size())) continue;
      const std::size_t bytes = line.size();
      line.reserve(bytes + simdjson::SIMDJSON_PADDING);
      std::string_view value;
      const auto error = parser.parse(line.data(), bytes, false)[source_.field].get(value);
      if (error) {
        refuse(bytes, begin, fmt::format("line {}: {}", number, json_fault(error)));
        continue;
      }
      RawDocument document = start(begin, bytes);
      document.text = value;
      document.nul_bytes = drop_nul(document.text);
      hand_on(std::move(document));
    }
  }

  std::string json_fault(simdjson::error_code error) const {
    if (error == simdjson::NO_SUCH_FIELD) return fmt::format("the object has no field \"{}\"", source_.field);
    if (error == simdjson::INCORRECT_TYPE)
      return fmt::format("expected an object whose field \"{}\" is a string", source_.field);
    return fmt::format("not a JSON object: {}", simdjson::error_message(error));
  }

  // False: the document was skipped. `offset` is that of text[0] in the file.
  bool check_utf8(const std::string& text, std::uint64_t offset) {
    const std::size_t valid = utf8_valid_prefix(text);
    if (valid == text.size()) return true;
    refuse(text.size(), offset,
           fmt::format("not UTF-8 at byte offset {} (byte 0x{:02X})", offset + valid,
                       static_cast<unsigned char>(text[valid])));
    return false;
  }

  void refuse(std::uint64_t bytes, std::uint64_t offset, const std::string& fault) {
    if (source_.on_error == OnError::fail) {
      fail_user("{}: {}; mend the file, or set on_error: skip to leave such documents out", path_, fault);
    }
    RawDocument document = start(offset, bytes);
    document.skipped = true;
    sink_(std::move(document));
  }

  RawDocument start(std::uint64_t offset, std::uint64_t bytes) const {
    RawDocument document;
    document.path = path_;
    document.offset = offset;
    document.raw_bytes = bytes;
    return document;
  }

  void hand_on(RawDocument&& document) const {
    unix_newlines(document.text);
    document.text = strip_terminal_codes(document.text);
    trim_blank_lines(document.text);
    sink_(std::move(document));
  }

  const SourceConfig& source_;
  const std::string& path_;
  const Sink& sink_;
};

}  // namespace

Format parse_format(std::string_view word) {
  const auto found = std::find(format_words.begin(), format_words.end(), word);
  if (found == format_words.end())
    fail_user("source: format is one of {}, found \"{}\"", fmt::join(format_words, ", "), word);
  return static_cast<Format>(found - format_words.begin());
}

std::vector<std::string> list_files(const SourceConfig& source) {
  std::vector<std::string> out;
  std::set<std::string> seen;
  for (const std::string& pattern : source.files) {
    const std::vector<std::string> matches = glob_files(pattern);
    if (matches.empty()) fail_user("source {}: no file matches {}", source.name, pattern);
    for (const std::string& path : matches) {
      if (seen.insert(path).second) out.push_back(path);
    }
  }
  if (out.empty()) fail_user("source {}: names no files", source.name);
  return out;
}

std::size_t read_source(const SourceConfig& source, const Sink& sink) {
  const std::vector<std::string> files = list_files(source);
  for (const std::string& path : files) FileReader(source, path, sink).read(format_of(path, source.format));
  return files.size();
}

}  // namespace whole_sources
}  // namespace dujiang::data
