#pragma once
// An open shard's columns: where they lie in a mapping of the file, or read through HDF5. Included by sources only.

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/shard/hdf5_handle.h"
#include "data/shard/shard_reader.h"
#include "framework/base/check.h"

namespace dujiang::data {

/// A file's bytes, mapped read-only; empty where it could not be mapped.
class Mapping {
 public:
  explicit Mapping(const std::filesystem::path& path);
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();
  std::span<const std::uint8_t> bytes() const { return bytes_; }

 private:
  std::span<const std::uint8_t> bytes_;
};

/// Every function throws UserError naming the file for what is missing, damaged or of other sizes than asked for.
class ShardFile {
 public:
  ShardFile(std::filesystem::path path, bool map);

  const std::filesystem::path& path() const { return path_; }
  std::int64_t bytes() const { return bytes_; }
  [[noreturn]] void bad(const std::string& what) const { fail_user("{}: {}", path_.string(), what); }
  void check(hid_t result, const char* what) const;

  bool has(const char* name) const;
  /// Attributes of the root.
  std::int64_t number(const char* name) const;
  std::string text(const char* name) const;
  /// A column of strings.
  std::vector<std::string> texts(const char* name) const;
  /// A column, which has these sizes.
  Hdf5Handle column(const char* name, const std::vector<std::int64_t>& sizes) const;
  std::int64_t length(const char* name) const;
  /// Where the column lies in the mapping; null when HDF5 keeps it elsewhere or otherwise.
  const std::uint8_t* place(hid_t column, hid_t type, std::int64_t bytes) const;
  /// Has the disk bring in mapped bytes, in large reads. A hint: what fails is found where they are used.
  void read_ahead(const std::uint8_t* first, std::int64_t count) const;
  /// A whole column; valid while this lives.
  template <class T>
  std::span<const T> load(const char* name, const std::vector<std::int64_t>& sizes) {
    std::size_t count = 1;
    for (const auto size : sizes) count *= static_cast<std::size_t>(size);
    return {static_cast<const T*>(load(name, sizes, type_of(T{}), count * sizeof(T))), count};
  }
  /// HDF5 has done its part, unless some column must be read through it.
  void close() { file_ = {}; }

 private:
  static hid_t type_of(std::uint64_t) { return H5T_STD_U64LE; }
  static hid_t type_of(std::uint32_t) { return H5T_STD_U32LE; }
  static hid_t type_of(std::uint8_t) { return H5T_STD_U8LE; }
  static hid_t type_of(float) { return H5T_IEEE_F32LE; }
  const void* load(const char* name, const std::vector<std::int64_t>& sizes, hid_t type, std::size_t bytes);

  std::filesystem::path path_;
  std::int64_t bytes_ = 0;
  Hdf5Handle file_;
  std::unique_ptr<Mapping> mapping_;
  std::vector<std::vector<std::uint64_t>> owned_;  // columns that could not be mapped
};

/// A column with one row per token. The file must outlive it. const functions are thread-safe.
class TokenColumn {
 public:
  TokenColumn() = default;
  TokenColumn(ShardFile& file, const char* name, const char* checksums_name, hid_t type, std::int64_t tokens,
              ReadOptions options);

  bool present() const { return file_ != nullptr; }
  bool mapped() const { return mapped_ != nullptr; }
  std::int64_t blocks() const { return static_cast<std::int64_t>(checksums_.size()); }
  /// Error naming file and block, once the blocks that hold these rows have been checked; then use(bytes).
  template <class Use>
  void read(std::int64_t first, std::int64_t count, Use&& use) const {
    if (count == 0) return;
    if (seen_) {
      const std::int64_t last = ((first + count) * width_ - 1) >> block_shift;
      for (std::int64_t block = first * width_ >> block_shift; block <= last; ++block)
        if (!(seen_[block / window_blocks].load(std::memory_order_relaxed) >> block % window_blocks & 1))
          first_use(block);
    }
    if (mapped_) return use(mapped_ + first * width_);
    const auto bytes = fetch(first, count);
    use(bytes.data());
  }
  /// Asks memory for rows that will be read.
  void prefetch(std::int64_t first, std::int64_t count) const {
    asm volatile("");  // GCC 12 drops calls of functions that do nothing but prefetch
    for (std::int64_t at = first * width_; mapped_ && at < (first + count) * width_; at += 64)
      __builtin_prefetch(mapped_ + at);
  }
  /// UserError naming file, column and block on a checksum mismatch, or where the file's bytes are not to be had.
  void verify_block(std::int64_t block) const;

 private:
  static constexpr int block_shift = 20;
  static constexpr std::int64_t window_blocks = 32;
  void first_use(std::int64_t block) const;
  /// The block's window, unless a block of it has been seen.
  void read_ahead(std::int64_t block) const;
  void set_seen(std::int64_t block) const {
    seen_[block / window_blocks].fetch_or(1u << block % window_blocks, std::memory_order_relaxed);
  }
  std::vector<std::uint8_t> fetch(std::int64_t first, std::int64_t count) const;

  const ShardFile* file_ = nullptr;
  const char* name_ = "";
  std::int64_t tokens_ = 0, width_ = 0;
  const std::uint8_t* mapped_ = nullptr;  // or else:
  Hdf5Handle column_, type_;
  std::span<const std::uint64_t> checksums_;
  bool verify_ = false, ahead_ = false;
  std::unique_ptr<std::atomic<std::uint32_t>[]> seen_;  // a bit per block, a word per window; with verify_ or ahead_
};

}  // namespace dujiang::data
