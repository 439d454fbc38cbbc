#pragma once
// Where raw text comes from: files named by globs, each holding one or many documents.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

// Inline: the reader that takes its place has types of the same names, and one program may hold both.
namespace dujiang::data {
inline namespace whole_sources {

/// automatic goes by the extension, a final .gz or .zst aside: .jsonl and .ndjson; .html and .htm; .1 to .8, .3pm and
/// the like, .n (man); else text.
/// fortune: records between lines that hold only `%`. man: roff source of a manual page (man or mdoc macros).
enum class Format { automatic, text, jsonl, html, man, fortune };

/// The format of a config's word (auto, text, jsonl, html, man, fortune); UserError otherwise.
Format parse_format(std::string_view word);

/// What to do with a document that isn't UTF-8 or (jsonl) isn't an object with the text field.
enum class OnError { fail, skip };

struct SourceConfig {
  std::string name;                // for reports
  std::vector<std::string> files;  // globs: * ? [] within a name, ** for any number of folders
  Format format = Format::automatic;
  std::string field = "text";  // jsonl: the field with the text
  std::string separator{};     // text: a line that ends a document; empty: the file is one document
  OnError on_error = OnError::fail;
};

/// Cleaned text: UTF-8 without BOM, NUL and ANSI escapes, lines end in '\n', no blank lines at either end.
struct RawDocument {
  std::string text;
  std::string path;
  std::uint64_t offset = 0;     // first byte of the document in the (decompressed) file
  std::uint64_t nul_bytes = 0;  // dropped
  bool skipped = false;         // unusable under OnError::skip: text is empty
  std::uint64_t raw_bytes = 0;  // size before cleaning
};

/// The files of a source, sorted by name within each glob, each once. UserError when a glob matches nothing.
std::vector<std::string> list_files(const SourceConfig& source);

/// Hands every document of the source to `sink` in order and returns the number of files. Holds one document at a time
/// (one file for html, man and unseparated text). Plain, gzip and zstd files are told apart by their first bytes.
/// UserError: unreadable or damaged file; under OnError::fail also bad text, with file and byte offset.
std::size_t read_source(const SourceConfig& source, const std::function<void(RawDocument&&)>& sink);

}  // namespace whole_sources
}  // namespace dujiang::data
