#include <algorithm>
#include <nlohmann/json.hpp>

#include "framework/base/check.h"
#include "framework/train/files.h"
#include "framework/train/safetensors.h"

namespace dujiang::train {

namespace {

using Json = nlohmann::ordered_json;
using Order = std::vector<const NamedTensor*>;

std::uint64_t bytes_of(const NamedTensor& named) {
  return named.tensor.raw().bytes();
}

// Wider elements first keeps every tensor aligned; by name within a width.
Order file_order(std::span<const NamedTensor> tensors) {
  Order order;
  for (const auto& named : tensors) order.push_back(&named);
  std::sort(order.begin(), order.end(), [](auto* a, auto* b) {
    const auto width_a = size_of(a->tensor.dtype()), width_b = size_of(b->tensor.dtype());
    return width_a != width_b ? width_a > width_b : a->name < b->name;
  });
  return order;
}

void write_one(const std::filesystem::path& path, const Order& order, const Metadata& metadata) {
  Json header;
  header["__metadata__"] = metadata;
  std::uint64_t at = 0;
  for (const NamedTensor* named : order) {
    const Tensor& t = named->tensor;
    DUJIANG_CHECK(t.defined(), "{}: tensor {} is undefined", path.string(), named->name);
    DUJIANG_CHECK(!header.contains(named->name), "{}: two tensors are named {}", path.string(), named->name);
    const std::uint64_t bytes = bytes_of(*named);
    const auto sizes = t.shape().sizes();
    header[named->name] = {{"dtype", safetensors_word(t.dtype())},
                           {"shape", std::vector<std::int64_t>(sizes.begin(), sizes.end())},
                           {"data_offsets", {at, at + bytes}}};
    at += bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');

  DurableFile file(path);
  const std::uint64_t length = text.size();
  file.write(&length, 8);
  file.write(text);
  for (const NamedTensor* named : order) {
    const Tensor whole = named->tensor.contiguous() ? named->tensor : named->tensor.clone();
    file.write(whole.raw().data, whole.raw().bytes());
  }
  file.commit();
}

}  // namespace

void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                       const Metadata& metadata) {
  write_one(path, file_order(tensors), metadata);
}

void write_safetensors_set(const std::filesystem::path& dir, const std::string& stem,
                           std::span<const NamedTensor> tensors, std::uint64_t max_bytes, const Metadata& metadata) {
  std::vector<std::vector<NamedTensor>> parts(1);
  std::uint64_t in_part = 0, total = 0;
  for (const auto& named : tensors) {
    const std::uint64_t bytes = bytes_of(named);
    if (!parts.back().empty() && in_part + bytes > max_bytes) {
      parts.emplace_back();
      in_part = 0;
    }
    parts.back().push_back(named);
    in_part += bytes;
    total += bytes;
  }
  if (parts.size() == 1) return write_safetensors(dir / (stem + ".safetensors"), tensors, metadata);

  Json index;
  index["metadata"]["total_size"] = total;
  Json& weight_map = index["weight_map"] = Json::object();
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::string name = fmt::format("{}-{:05}-of-{:05}.safetensors", stem, i + 1, parts.size());
    write_safetensors(dir / name, parts[i], metadata);
    for (const auto& named : parts[i]) weight_map[named.name] = name;
  }
  write_file(dir / (stem + ".safetensors.index.json"), index.dump(2) + "\n");
}

}  // namespace dujiang::train
