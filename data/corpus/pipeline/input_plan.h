#pragma once
// Which files a build reads, in which order, and how they are cut into units that processes share out. It is made once
// and kept beside the build, so that a restart sees the files that the first start saw.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "data/corpus/read/reader.h"

namespace dujiang::data {

struct InputFile {
  std::string path;
  std::uint32_t source = 0;
  std::uint64_t bytes = 0;    // on disk
  std::int64_t modified = 0;  // nanoseconds since 1970
  bool operator==(const InputFile&) const = default;
};

/// Size and time of a file as they are now; false when it can't be had.
bool look_at(InputFile& file);

struct InputPlan {
  std::vector<InputFile> files;   // by source, then as its globs list them
  std::vector<FileFault> faults;  // what the globs met that can't be read

  /// Consecutive files of one source, `unit_bytes` together or one alone.
  std::span<const InputFile> unit(std::size_t u) const {
    return std::span(files).subspan(starts_[u], starts_[u + 1] - starts_[u]);
  }
  /// A hash of the sizes and times of a unit's files as they are now.
  std::uint64_t stamp(std::size_t u) const;
  std::size_t first_file(std::size_t u) const { return starts_[u]; }
  std::size_t units() const { return starts_.size() - 1; }
  void cut(std::uint64_t unit_bytes);

 private:
  std::vector<std::size_t> starts_{0};
};

void write_plan(const std::filesystem::path& path, const InputPlan& plan);
/// UserError naming the file when it is damaged.
InputPlan read_plan(const std::filesystem::path& path);

}  // namespace dujiang::data
