#pragma once
// Files as streams of bytes and lines, decompressed on the way.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace dujiang::data {

/// Paths that match, sorted by bytes. Within a name * ? and [] as in fnmatch(3); ** stands for any number of folders
/// (it doesn't follow links to folders). A pattern without these names a file, whatever characters it has.
std::vector<std::string> glob_files(const std::string& pattern);

/// A plain, gzip or zstd file, told apart by its first bytes; concatenated gzip members and zstd frames are read
/// through. UserError naming the file when it can't be read, is damaged or cut short.
class ByteStream {
 public:
  explicit ByteStream(const std::string& path);
  ~ByteStream();
  /// Fills up to `size` bytes; 0 at the end.
  std::size_t read(char* out, std::size_t size);

  struct Source;

 private:
  std::unique_ptr<Source> source_;
};

class LineReader {
 public:
  explicit LineReader(const std::string& path) : stream_(path), buffer_(1 << 16, '\0') {}
  /// The next line with its '\n' (the last may have none); false at the end.
  bool next(std::string& line);
  /// Offset in the decompressed file of the byte after the last line handed out.
  std::uint64_t offset() const { return offset_; }

 private:
  ByteStream stream_;
  std::string buffer_;
  std::size_t begin_ = 0, end_ = 0;
  std::uint64_t offset_ = 0;
};

std::string read_all(const std::string& path);

}  // namespace dujiang::data
