#pragma once
// Files of named tensors in the safetensors format (https://github.com/huggingface/safetensors#format): 8 bytes of
// header length, a JSON header of dtype, shape and byte range per tensor, then the bytes, little endian.

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "framework/tensor/tensor.h"

namespace dujiang::train {

struct NamedTensor {
  std::string name;
  Tensor tensor;
};

struct TensorEntry {
  Dtype dtype = Dtype::f32;
  Shape shape;
  std::uint64_t begin = 0, end = 0;  ///< bytes after the header
};

/// The format's word for a dtype: "F32".
std::string_view safetensors_word(Dtype dtype);

using Metadata = std::map<std::string, std::string>;

/// One file, mapped for reading.
class SafetensorsFile {
 public:
  /// Checks the header against the file's size: what lies in a file that opens can be read. UserError naming the file,
  /// and the tensor where one is at fault (unknown dtype, range outside the file, range and shape that disagree, ...).
  explicit SafetensorsFile(std::filesystem::path path);

  const std::filesystem::path& path() const { return path_; }
  const std::map<std::string, TensorEntry>& entries() const { return entries_; }
  const Metadata& metadata() const { return metadata_; }

  /// Error when there is no such tensor.
  const TensorEntry& entry(const std::string& name) const;
  /// A copy in the stored dtype.
  Tensor read(const std::string& name) const;
  /// Into `target`, converted between floating dtypes; Error when shapes differ.
  void read_into(const std::string& name, const Tensor& target) const;
  /// The tensor's elements [first, first + target.count()) (flat, row-major) into `target`, which is contiguous;
  /// converted likewise. Touches the pages that hold them and no others.
  void read_elements(const std::string& name, std::int64_t first, const Tensor& target) const;

 private:
  void parse_header();
  void parse_entry(const std::string& name, const void* json);

  std::filesystem::path path_;
  std::shared_ptr<const std::byte> map_;
  std::uint64_t size_ = 0, data_begin_ = 0;
  std::map<std::string, TensorEntry> entries_;
  Metadata metadata_;
};

/// One or several files read as one: DIR/STEM.safetensors, or those that DIR/STEM.safetensors.index.json lists.
class SafetensorsSet {
 public:
  /// UserError naming the file: none there, one of the index missing, a tensor that is not where the index says or
  /// that lies in two files.
  SafetensorsSet(const std::filesystem::path& dir, const std::string& stem);

  bool contains(const std::string& name) const { return where_.contains(name); }
  /// Sorted.
  std::vector<std::string> names() const;
  const std::filesystem::path& dir() const { return dir_; }
  /// The file that holds the tensor; Error when there is no such tensor.
  const SafetensorsFile& file_of(const std::string& name) const;
  const TensorEntry& entry(const std::string& name) const { return file_of(name).entry(name); }
  Tensor read(const std::string& name) const { return file_of(name).read(name); }
  void read_into(const std::string& name, const Tensor& target) const { file_of(name).read_into(name, target); }
  void read_elements(const std::string& name, std::int64_t first, const Tensor& target) const {
    file_of(name).read_elements(name, first, target);
  }

 private:
  std::filesystem::path dir_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, const SafetensorsFile*> where_;
};

/// Writes PATH beside itself, fsyncs and renames it: a whole file or none. Wider dtypes come first, then names, so that
/// every tensor is aligned. UserError naming the file when it cannot be written (disk full, ...).
void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                       const Metadata& metadata = {{"format", "pt"}});

}  // namespace dujiang::train
