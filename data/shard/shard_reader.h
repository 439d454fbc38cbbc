#pragma once
// Reads one shard: through a mapping of the file where HDF5 keeps a column in one piece (H5Dget_offset), otherwise
// through H5Dread, which is some thirty times slower for short reads. All functions are thread-safe.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "data/shard/shard_format.h"

namespace dujiang::data {

struct ReadOptions {
  /// Check each 1 MiB block's checksum before its first use. A file that has become shorter since it was opened is then
  /// an error as long as the block has not been used; afterwards, and without the checks, it raises SIGBUS.
  bool verify_blocks = true;
  /// Read 32 MiB at once, from the disk, where the first block of them is used: much faster when all of them fit in
  /// memory, a waste when they do not.
  bool read_ahead = true;
  bool map = true;  ///< false: H5Dread only (for file systems that cannot map)
};

class ShardReader {
 public:
  /// Checks the format version and all sizes against the file, so that a truncated file is refused here. UserError
  /// naming the file otherwise.
  explicit ShardReader(const std::filesystem::path& path, ReadOptions options = {});
  ~ShardReader();
  ShardReader(const ShardReader&) = delete;
  ShardReader& operator=(const ShardReader&) = delete;

  const std::filesystem::path& path() const;
  const DatasetInfo& info() const;
  const std::string& split() const;
  std::int64_t tokens() const;
  std::int64_t documents() const;
  std::int64_t file_bytes() const;
  bool mapped() const;  ///< tokens are read through the mapping
  bool has_loss_weights() const;
  bool has_labels() const;

  /// documents() + 1 offsets into the tokens; first 0, last tokens().
  std::span<const std::uint64_t> doc_offsets() const;
  std::span<const std::uint32_t> doc_sources() const;
  std::span<const std::uint32_t> doc_flags() const;
  /// [documents, 2]
  std::span<const std::uint64_t> doc_hashes() const;
  std::span<const float> doc_qualities() const;
  std::span<const std::uint64_t> doc_clusters() const;
  /// Rows of files().
  std::span<const std::uint32_t> doc_files() const;
  /// Of the raw document in its file.
  std::span<const std::uint64_t> doc_raw_offsets() const;
  std::span<const std::uint64_t> doc_raw_bytes() const;
  std::span<const std::uint8_t> doc_encodings() const;
  std::span<const std::uint8_t> doc_scripts() const;
  /// Paths of source files, as bytes in any encoding.
  std::span<const std::string_view> files() const;

  /// Tokens [first, first + count) into `out`. UserError naming file and block where verify_blocks finds a mismatch;
  /// Error outside [0, tokens()].
  void read(std::int64_t first, std::int64_t count, std::int32_t* out) const;
  /// Asks memory for tokens that will be read: worth it where they lie apart from those read before.
  void prefetch(std::int64_t first, std::int64_t count) const;
  /// Likewise the columns beside the tokens: all 1 without has_loss_weights(); Error without has_labels().
  void read_loss_weights(std::int64_t first, std::int64_t count, float* out) const;
  void read_labels(std::int64_t first, std::int64_t count, std::int32_t* out) const;

  /// Of /tokens.
  std::int64_t blocks() const;
  /// UserError naming file and block on a checksum mismatch.
  void verify_block(std::int64_t block) const;
  /// Every block of every column, every offset, every row of a table, every token below the vocabulary size. UserError
  /// naming file and block or document.
  void verify() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// XXH3-64 of a file's bytes. UserError when it cannot be read.
std::uint64_t hash_file(const std::filesystem::path& path);

}  // namespace dujiang::data
