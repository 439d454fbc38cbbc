#pragma once
// Files as streams of bytes, decompressed on the way.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/corpus/read/file_fault.h"
#include "data/text/sha256.h"

namespace dujiang::data {

/// Paths that match, sorted by bytes. Within a name * ? and [] as in fnmatch(3); ** stands for any number of folders
/// (it doesn't follow links to folders). A pattern without these names a file, whatever characters it has. Folders that
/// can't be listed, and matches that are cyclic or dangling links, pipes, sockets or devices, are told of in `faults`
/// if given.
std::vector<std::string> glob_files(const std::string& pattern, std::vector<FileFault>* faults = nullptr);

/// The files of all globs, each once, in the globs' order. UserError naming the source when a glob matches nothing and
/// no fault explains it.
std::vector<std::string> list_files(const std::string& source, const std::vector<std::string>& globs,
                                    std::vector<FileFault>& faults);

/// A plain, gzip, zstd or xz file, told apart by its first bytes; concatenated members and frames are read through.
/// Takes little memory whatever the file holds. FileError when it can't be read, is damaged or cut short, or grows by
/// more than `max_expansion` on decompression (looked at from 64 MiB on; 0: it may). The bytes that are read, as they
/// are on disk, go to `digest` too, if given: it outlives the stream.
class ByteStream {
 public:
  explicit ByteStream(const std::string& path, double max_expansion = 0, Sha256* digest = nullptr);
  ~ByteStream();
  ByteStream(ByteStream&&) noexcept;
  /// Fills up to `size` bytes; 0 at the end.
  std::size_t read(char* out, std::size_t size);
  /// Reads what is left of the file, for its digest.
  void drain();
  /// FileError when the file isn't the one any more that was opened: removed, replaced, written to.
  void check_unchanged() const;

  class File;
  class Codec;

 private:
  std::unique_ptr<File> file_;
  std::unique_ptr<Codec> codec_;
  double max_expansion_;
  std::uint64_t produced_ = 0;
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
