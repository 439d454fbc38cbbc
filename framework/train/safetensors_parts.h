#pragma once
// Safetensors files that several ranks write together. Where a tensor lies follows from the list of tensors alone,
// never from who holds what, so every layout gives the same bytes: rank 0 makes the files at full size, then every rank
// writes the elements that are its own straight to their places.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "framework/base/files.h"
#include "framework/nn/module.h"
#include "framework/train/safetensors.h"

namespace dujiang::train {

/// A tensor of a set, and what this rank writes of it. All ranks list all tensors in the same order; who writes which
/// element is the caller's affair, but each is written once.
struct TensorPart {
  struct Piece {
    Tensor elements;                   ///< contiguous, in host memory, of the tensor's dtype
    std::vector<nn::ElementRun> runs;  ///< from places in `elements` (flat) to places in the whole (flat)
    Tensor low{};  ///< of an f32 tensor whose upper halves are `elements`: the lower ones (ops::split_f32)
    /// [count] of the tensor's elements, contiguous: a part of `elements` or a copy.
    Tensor read(std::int64_t first, std::int64_t count) const;
  };
  std::string name;
  Dtype dtype = Dtype::f32;
  Shape global;
  std::vector<Piece> pieces;
};

/// `elements` are [first, first + elements.count()) of the part of `parameter` that is held here.
TensorPart::Piece piece_of(const nn::Parameter& parameter, const Tensor& elements, std::int64_t first = 0);
/// The whole tensor, written here or by nobody here.
TensorPart whole_part(const NamedTensor& named, bool written_here = true);
std::vector<TensorPart> whole_parts(std::span<const NamedTensor> tensors, bool written_here = true);

/// Elements [first, first + target.count()) of the part of `parameter` held here, from the tensor `name`, which is the
/// whole. Reads no more than that; converts between floating dtypes; padding gets 0. `target` is contiguous.
void read_part(const SafetensorsSet& set, const std::string& name, const nn::Parameter& parameter, const Tensor& target,
               std::int64_t first = 0);

/// What a set's files look like: DIR/STEM.safetensors, or above `max_bytes` of data several files, filled in the order
/// of the list, and an index. No tensor is split. Inside a file wider dtypes come first, then names, so that every
/// tensor is aligned.
struct SafetensorsLayout {
  struct File {
    std::string name;
    std::string head;                  ///< header and what comes before it
    std::uint64_t size = 0;            ///< of the whole file
    std::vector<std::size_t> tensors;  ///< of the list, as they lie in the file
  };
  struct Place {
    std::size_t file = 0;
    std::uint64_t begin = 0;  ///< bytes from the file's start
  };
  std::vector<File> files;
  std::vector<Place> places;      ///< of the list's tensors
  std::string index_name, index;  ///< empty for one file

  SafetensorsLayout(const std::string& stem, std::span<const TensorPart> list, std::uint64_t max_bytes,
                    const Metadata& metadata = {{"format", "pt"}});
};

/// Collective. Error, the same on all ranks, that names the first tensor of which the ranks together would not write
/// every element exactly once, or a list that differs between ranks. Looks at runs only, reads no element.
void require_written_once(std::span<const TensorPart> list, comm::Communicator& communicator);

/// Makes a file of a layout: its head, and room on the disk for the rest. UserError naming the file when there is none.
void create_file(const std::filesystem::path& dir, const SafetensorsLayout::File& file);

/// Writes a rank's pieces into files that are there.
class PartWriter {
 public:
  /// Layout and list must outlive this.
  PartWriter(std::filesystem::path dir, const SafetensorsLayout& layout, std::span<const TensorPart> list);
  /// Writes about `bytes` more and makes them last; false when all is written. UserError naming the file.
  bool advance(std::uint64_t bytes);

 private:
  bool next_run();

  std::filesystem::path dir_;
  const SafetensorsLayout& layout_;
  std::span<const TensorPart> list_;
  std::size_t tensor_ = 0, piece_ = 0, run_ = 0;
  std::int64_t done_ = 0;  ///< elements of the run
  std::optional<std::size_t> open_;
  std::unique_ptr<PlacedFile> file_;
};

}  // namespace dujiang::train
