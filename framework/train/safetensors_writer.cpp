#include <limits>

#include "framework/base/files.h"
#include "framework/train/safetensors_parts.h"

namespace dujiang::train {

void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                       const Metadata& metadata) {
  const auto list = whole_parts(tensors);
  const SafetensorsLayout layout(path.string(), list, std::numeric_limits<std::uint64_t>::max(), metadata);
  DurableFile file(path);
  file.write(layout.files[0].head);
  for (const std::size_t i : layout.files[0].tensors) {
    const Tensor& tensor = list[i].pieces[0].elements;
    file.write(tensor.raw().data, tensor.raw().bytes());
  }
  file.commit();
}

}  // namespace dujiang::train
