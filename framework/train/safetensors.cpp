#include "framework/train/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "framework/base/check.h"

namespace dujiang::train {

static_assert(std::endian::native == std::endian::little, "safetensors bytes are little endian");

namespace {

using Json = nlohmann::json;

constexpr std::uint64_t max_header_bytes = 100'000'000;  // the limit of Hugging Face's reader

struct DtypeWord {
  const char* word;
  Dtype dtype;
};
constexpr DtypeWord dtype_words[] = {
    {"F32", Dtype::f32}, {"BF16", Dtype::bf16}, {"F16", Dtype::f16}, {"F64", Dtype::f64}, {"I32", Dtype::i32},
    {"I64", Dtype::i64}, {"U8", Dtype::u8},     {"U16", Dtype::u16}, {"U32", Dtype::u32}, {"U64", Dtype::u64}};

bool is_size(const Json& json) {
  return json.is_number_unsigned() && json.get<std::uint64_t>() <= std::uint64_t{1} << 62;
}

}  // namespace

std::string_view safetensors_word(Dtype dtype) {
  return std::find_if(std::begin(dtype_words), std::end(dtype_words), [&](auto& w) { return w.dtype == dtype; })->word;
}

SafetensorsFile::SafetensorsFile(std::filesystem::path path) : path_(std::move(path)) {
  const int fd = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail_user("{}: cannot be opened: {}", path_.string(), std::strerror(errno));
  struct stat status {};
  ::fstat(fd, &status);
  size_ = static_cast<std::uint64_t>(status.st_size);
  if (!S_ISREG(status.st_mode) || size_ < 8) {
    ::close(fd);
    fail_user("{}: not a safetensors file: {} bytes, expected a header of 8 at least", path_.string(), size_);
  }
  void* mapped = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
  const int error = errno;
  ::close(fd);
  if (mapped == MAP_FAILED) fail_user("{}: cannot be mapped: {}", path_.string(), std::strerror(error));
  map_ = {static_cast<const std::byte*>(mapped),
          [size = size_](const std::byte* p) { ::munmap(const_cast<std::byte*>(p), size); }};
  parse_header();
}

void SafetensorsFile::parse_header() {
  std::uint64_t length = 0;
  std::memcpy(&length, map_.get(), 8);
  if (length > max_header_bytes || length > size_ - 8) {
    fail_user("{}: truncated or not a safetensors file: its header claims {} bytes, the file has {}", path_.string(),
              length, size_);
  }
  data_begin_ = 8 + length;
  const char* text = reinterpret_cast<const char*>(map_.get()) + 8;
  Json header;
  try {
    header = Json::parse(text, text + length);
  } catch (const Json::exception& e) {
    fail_user("{}: the safetensors header is not JSON: {}", path_.string(), e.what());
  }
  if (!header.is_object()) fail_user("{}: the safetensors header is not a JSON object", path_.string());

  for (const auto& [name, value] : header.items()) {
    if (name != "__metadata__") {
      parse_entry(name, &value);
      continue;
    }
    try {
      metadata_ = value.get<Metadata>();
    } catch (const Json::exception&) {
      fail_user("{}: __metadata__ in the header is not an object of strings", path_.string());
    }
  }

  // The format has neither holes nor overlaps, so sorted ranges must meet end to end.
  std::vector<std::pair<const TensorEntry*, const std::string*>> order;
  for (const auto& [name, entry] : entries_) order.emplace_back(&entry, &name);
  std::sort(order.begin(), order.end(), [](auto& a, auto& b) {
    return std::pair(a.first->begin, a.first->end) < std::pair(b.first->begin, b.first->end);
  });
  std::uint64_t at = 0;
  for (const auto& [entry, name] : order) {
    if (entry->begin != at) {
      fail_user("{}: tensor {} begins at byte {} of the data, expected {}: tensors overlap or leave a hole",
                path_.string(), *name, entry->begin, at);
    }
    at = entry->end;
  }
  if (data_begin_ + at != size_) {
    fail_user("{}: {} bytes, but header and tensors make {}: truncated or altered", path_.string(), size_,
              data_begin_ + at);
  }
}

void SafetensorsFile::parse_entry(const std::string& name, const void* opaque) {
  const Json& json = *static_cast<const Json*>(opaque);
  const auto wrong = [&](const std::string& what) { fail_user("{}: tensor {}: {}", path_.string(), name, what); };
  if (!json.is_object() || !json.contains("dtype") || !json["dtype"].is_string() || !json.contains("shape") ||
      !json["shape"].is_array() || !json.contains("data_offsets") || !json["data_offsets"].is_array() ||
      json["data_offsets"].size() != 2) {
    wrong("the header must give dtype, shape and two data_offsets");
  }
  TensorEntry entry;
  const auto word = json["dtype"].get<std::string>();
  const auto known =
      std::find_if(std::begin(dtype_words), std::end(dtype_words), [&](auto& w) { return w.word == word; });
  if (known == std::end(dtype_words)) {
    wrong(fmt::format("dtype {} is not supported (F32, BF16, F16, F64 and 32 or 64 bit integers are)", word));
  }
  entry.dtype = known->dtype;

  std::vector<std::int64_t> sizes;
  std::uint64_t bytes = size_of(entry.dtype);
  for (const Json& size : json["shape"]) {
    if (!is_size(size)) wrong("shape " + json["shape"].dump() + ": expected sizes of 0 or more");
    sizes.push_back(size.get<std::int64_t>());
  }
  if (sizes.size() > Shape::max_rank)
    wrong(fmt::format("{} axes, at most {} are supported", sizes.size(), Shape::max_rank));
  for (auto size : sizes) {
    if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(size), &bytes)) {
      wrong("shape " + json["shape"].dump() + " is larger than memory");
    }
  }
  entry.shape = Shape(sizes);
  const Json& offsets = json["data_offsets"];
  if (!is_size(offsets[0]) || !is_size(offsets[1]))
    wrong("data_offsets " + offsets.dump() + ": expected two positions");
  entry.begin = offsets[0].get<std::uint64_t>();
  entry.end = offsets[1].get<std::uint64_t>();
  if (entry.begin > entry.end || entry.end > size_ - data_begin_) {
    wrong(fmt::format("bytes {} to {} lie outside the file's data of {} bytes: truncated or altered", entry.begin,
                      entry.end, size_ - data_begin_));
  }
  if (entry.end - entry.begin != bytes) {
    wrong(fmt::format("{} bytes of data, but {}{} takes {}", entry.end - entry.begin, name_of(entry.dtype),
                      entry.shape.str(), bytes));
  }
  entries_.emplace(name, entry);
}

const TensorEntry& SafetensorsFile::entry(const std::string& name) const {
  const auto it = entries_.find(name);
  DUJIANG_CHECK(it != entries_.end(), "{}: there is no tensor {}", path_.string(), name);
  return it->second;
}

Tensor SafetensorsFile::read(const std::string& name) const {
  const TensorEntry& e = entry(name);
  Tensor out = Tensor::empty(e.shape, e.dtype);
  // Copied bytewise: the format does not promise that tensors are aligned.
  if (e.end > e.begin) std::memcpy(out.raw().data, map_.get() + data_begin_ + e.begin, e.end - e.begin);
  return out;
}

void SafetensorsFile::read_into(const std::string& name, const Tensor& target) const {
  const TensorEntry& e = entry(name);
  DUJIANG_CHECK(e.shape == target.shape(), "{}: tensor {} has shape {}, read into {}", path_.string(), name,
                e.shape.str(), target.str());
  if (target.contiguous()) return read_elements(name, 0, target);
  const Tensor whole = Tensor::empty(target.shape(), target.dtype());
  read_elements(name, 0, whole);
  target.copy_from(whole);
}

void SafetensorsFile::read_elements(const std::string& name, std::int64_t first, const Tensor& target) const {
  const TensorEntry& e = entry(name);
  const std::int64_t count = target.count();
  DUJIANG_CHECK(target.contiguous() && first >= 0 && first + count <= e.shape.count(),
                "{}: tensor {} {}: elements {} to {} read into {}", path_.string(), name, e.shape.str(), first,
                first + count, target.str());
  DUJIANG_CHECK(e.dtype == target.dtype() || (is_floating(e.dtype) && is_floating(target.dtype())),
                "{}: tensor {} of dtype {} cannot be read as {}", path_.string(), name, name_of(e.dtype),
                name_of(target.dtype()));
  const std::size_t width = size_of(e.dtype);
  const std::byte* from = map_.get() + data_begin_ + e.begin + static_cast<std::uint64_t>(first) * width;
  // Copied bytewise: the format does not promise that tensors are aligned.
  if (e.dtype == target.dtype()) {
    if (count > 0) std::memcpy(target.raw().data, from, target.raw().bytes());
    return;
  }
  constexpr std::int64_t piece = std::int64_t{1} << 20;
  const Tensor flat = target.view({count}), stored = Tensor::empty({std::min(piece, count)}, e.dtype);
  for (std::int64_t at = 0; at < count; at += piece) {
    const Tensor part = stored.narrow(0, 0, std::min(piece, count - at));
    std::memcpy(part.raw().data, from + static_cast<std::uint64_t>(at) * width, part.raw().bytes());
    flat.narrow(0, at, part.count()).copy_from(part);
  }
}

SafetensorsSet::SafetensorsSet(const std::filesystem::path& dir, const std::string& stem) : dir_(dir) {
  const auto single = dir / (stem + ".safetensors"), index = dir / (stem + ".safetensors.index.json");
  if (std::filesystem::exists(single)) {
    files_.push_back(std::make_unique<SafetensorsFile>(single));
    for (const auto& [name, entry] : files_[0]->entries()) where_[name] = files_[0].get();
    return;
  }
  std::ifstream in(index, std::ios::binary);
  if (!in) {
    fail_user("{}: holds neither {} nor {}", dir.string(), single.filename().string(), index.filename().string());
  }
  std::map<std::string, std::string> weight_map;
  try {
    weight_map = Json::parse(in).at("weight_map").get<std::map<std::string, std::string>>();
  } catch (const Json::exception& e) {
    fail_user("{}: expected a JSON object whose weight_map gives each tensor's file: {}", index.string(), e.what());
  }
  std::map<std::string, const SafetensorsFile*> by_name;
  for (const auto& [tensor, file] : weight_map) {
    if (std::filesystem::path(file).filename() != file) {
      fail_user("{}: tensor {}: '{}' is not the name of a file in this directory", index.string(), tensor, file);
    }
    if (by_name.contains(file)) continue;
    if (!std::filesystem::exists(dir / file)) fail_user("{}: lists {}, which is missing", index.string(), file);
    by_name[file] = files_.emplace_back(std::make_unique<SafetensorsFile>(dir / file)).get();
  }
  for (const auto& file : files_) {
    for (const auto& [name, entry] : file->entries()) {
      const auto [it, fresh] = where_.emplace(name, file.get());
      if (!fresh) {
        fail_user("{}: tensor {} lies in {} too", file->path().string(), name, it->second->path().filename().string());
      }
    }
  }
  for (const auto& [tensor, file] : weight_map) {
    const auto it = where_.find(tensor);
    if (it == where_.end() || it->second != by_name[file]) {
      fail_user("{}: tensor {} is missing, {} lists it there", (dir / file).string(), tensor,
                index.filename().string());
    }
  }
}

std::vector<std::string> SafetensorsSet::names() const {
  std::vector<std::string> names;
  for (const auto& [name, file] : where_) names.push_back(name);
  return names;
}

const SafetensorsFile& SafetensorsSet::file_of(const std::string& name) const {
  const auto it = where_.find(name);
  DUJIANG_CHECK(it != where_.end(), "{}: there is no tensor {}", dir_.string(), name);
  return *it->second;
}

}  // namespace dujiang::train
