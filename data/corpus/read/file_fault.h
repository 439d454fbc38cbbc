#pragma once
// What is wrong with a whole file or folder. The rest of the input goes on without it, unless the caller is strict.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "framework/base/check.h"

namespace dujiang::data {

/// rule: vanished (no such file), unreadable (permission, I/O error), not_a_file (a folder, a device), link_loop,
/// truncated, damaged (compressed data), zip_bomb, binary, changed (while it was read), no_field (a CSV file without
/// the column). The documents before `offset` (in the decompressed file) are sound.
struct FileFault {
  std::string path;
  std::uint64_t offset = 0;
  std::string rule, message;
};

/// The same as an exception, on its way to whoever makes a FileFault of it.
class FileError : public UserError {
 public:
  FileError(std::string rule, const std::string& message) : UserError(message), rule_(std::move(rule)) {}
  const std::string& rule() const { return rule_; }

 private:
  std::string rule_;
};

/// A path for messages: bytes that aren't UTF-8 become \xNN.
std::string printable_path(std::string_view path);

/// The FileError for a system call's errno.
FileError system_error(const std::string& path, int error);

}  // namespace dujiang::data
