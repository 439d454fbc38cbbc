#pragma once
// The documents that go, one JSON object a line: step, rule, value, limit, detail, source, file, offset, bytes, text.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "data/corpus/step.h"

namespace dujiang::data {

/// Where a rejected document came from.
struct Provenance {
  std::string_view source, file;
  std::uint64_t offset = 0, bytes = 0;  // in the decompressed file
};

class RejectLog {
 public:
  /// Of each text the first `text_bytes` are kept.
  explicit RejectLog(std::size_t text_bytes) : text_bytes_(text_bytes) {}
  void add(std::string_view step, const Rejection& why, const Provenance& from, std::string_view text);
  /// Writes all lines as one zstd frame: such files joined are again one. No lines: an empty file.
  void write(const std::filesystem::path& path) const;

 private:
  std::size_t text_bytes_;
  std::string lines_;
};

}  // namespace dujiang::data
