#pragma once
// Writing files so that a crash or a full disk leaves whole ones.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace dujiang {

/// An open file that is written from front to back. Removes itself unless commit() was reached.
class DurableFile {
 public:
  /// Writes beside `path`, as path.tmp. UserError naming `path` when that cannot be created.
  explicit DurableFile(std::filesystem::path path);
  ~DurableFile();
  DurableFile(const DurableFile&) = delete;
  DurableFile& operator=(const DurableFile&) = delete;

  void write(const void* bytes, std::size_t count);
  void write(std::string_view text) { write(text.data(), text.size()); }
  /// fsync, close, rename to `path`.
  void commit();

 private:
  [[noreturn]] void fail_io(const char* action) const;

  std::filesystem::path path_, temporary_;
  int fd_ = -1;
};

/// A file that several processes fill at places of their own: one makes it, the others open it.
class PlacedFile {
 public:
  /// A new file of `size` zero bytes, with room for them on the disk. UserError naming it when there is none.
  static PlacedFile create(std::filesystem::path path, std::uint64_t size);
  static PlacedFile open(std::filesystem::path path);
  ~PlacedFile();
  PlacedFile(PlacedFile&& other) noexcept;
  PlacedFile& operator=(PlacedFile&&) = delete;

  void write_at(std::uint64_t offset, const void* bytes, std::size_t count) const;
  /// Makes what was written last.
  void sync() const;

 private:
  PlacedFile(std::filesystem::path path, int flags);

  std::filesystem::path path_;
  int fd_ = -1;
};

/// All bytes of a file. UserError naming it when it can't be read.
std::string read_file(const std::filesystem::path& path);
/// Replaces `path` with the text.
void write_file(const std::filesystem::path& path, std::string_view text);
/// Copies a file's bytes to a new one.
void copy_file_durably(const std::filesystem::path& from, const std::filesystem::path& to);
/// Makes the directory's entries (new, renamed, removed files) last.
void sync_directory(const std::filesystem::path& dir);

}  // namespace dujiang
