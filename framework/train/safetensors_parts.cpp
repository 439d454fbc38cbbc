#include "framework/train/safetensors_parts.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "framework/base/check.h"
#include "framework/train/agreement.h"
#include "ops/optim.h"

namespace dujiang::train {
namespace {

std::uint64_t bytes_of(const TensorPart& part) {
  return static_cast<std::uint64_t>(part.global.count()) * size_of(part.dtype);
}

// Lays the tensors out behind one another; `places` get their positions in the file.
SafetensorsLayout::File lay_out(std::string name, std::vector<std::size_t> tensors, std::span<const TensorPart> list,
                                const Metadata& metadata, std::vector<SafetensorsLayout::Place>& places) {
  std::sort(tensors.begin(), tensors.end(), [&](std::size_t a, std::size_t b) {
    const auto width_a = size_of(list[a].dtype), width_b = size_of(list[b].dtype);
    return width_a != width_b ? width_a > width_b : list[a].name < list[b].name;
  });
  nlohmann::ordered_json header;
  header["__metadata__"] = metadata;
  std::uint64_t at = 0;
  for (const std::size_t i : tensors) {
    const TensorPart& part = list[i];
    const auto sizes = part.global.sizes();
    header[part.name] = {{"dtype", safetensors_word(part.dtype)},
                         {"shape", std::vector<std::int64_t>(sizes.begin(), sizes.end())},
                         {"data_offsets", {at, at + bytes_of(part)}}};
    places[i].begin = at;
    at += bytes_of(part);
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = text.size();
  std::string head(reinterpret_cast<const char*>(&length), 8);
  head += text;
  for (const std::size_t i : tensors) places[i].begin += head.size();
  const std::uint64_t size = head.size() + at;
  return {std::move(name), std::move(head), size, std::move(tensors)};
}

void check_piece(const TensorPart& part, const TensorPart::Piece& piece) {
  const Tensor &elements = piece.elements, &low = piece.low;
  const auto fits = [&](const Tensor& t, Dtype dtype) {
    return t.defined() && t.contiguous() && t.dtype() == dtype && t.device() == Device{};
  };
  const bool right = low.defined() ? part.dtype == Dtype::f32 && fits(elements, Dtype::bf16) && fits(low, Dtype::u16) &&
                                         low.count() == elements.count()
                                   : fits(elements, part.dtype);
  DUJIANG_CHECK(right, "tensor {}: a piece is {}, expected contiguous {} in host memory", part.name, elements.str(),
                name_of(part.dtype));
  for (const auto& run : piece.runs) {
    const bool inside = run.count >= 0 && run.local >= 0 && run.global >= 0 &&
                        run.local + run.count <= elements.count() && run.global + run.count <= part.global.count();
    DUJIANG_CHECK(inside, "tensor {} {}: a run of {} elements from {} of a piece of {} to {} lies outside", part.name,
                  part.global.str(), run.count, run.local, elements.count(), run.global);
  }
}

// A number that looks random, for each place in a tensor (the finalizer of splitmix64).
std::uint64_t mix(std::uint64_t place) {
  place += 0x9e3779b97f4a7c15;
  place = (place ^ (place >> 30)) * 0xbf58476d1ce4e5b9;
  place = (place ^ (place >> 27)) * 0x94d049bb133111eb;
  return place ^ (place >> 31);
}

// Summed over runs that meet end to end this is that of the one run they make; any gap or overlap leaves ends that
// nothing cancels.
std::uint64_t span_sum(std::int64_t first, std::int64_t count) {
  return mix(static_cast<std::uint64_t>(first + count)) - mix(static_cast<std::uint64_t>(first));
}

Hash128 hash_of_list(std::span<const TensorPart> list) {
  std::string text;
  for (const auto& part : list) text += fmt::format("{} {} {}\n", part.name, name_of(part.dtype), part.global.str());
  return hash_of(text);
}

}  // namespace

Tensor TensorPart::Piece::read(std::int64_t first, std::int64_t count) const {
  const auto part = [&](const Tensor& t) { return t.view({t.count()}).narrow(0, first, count); };
  if (!low.defined()) return part(elements);
  const Tensor joined = Tensor::empty({count}, Dtype::f32);
  ops::join_f32(default_stream({}), part(elements), part(low), joined);
  return joined;
}

TensorPart::Piece piece_of(const nn::Parameter& parameter, const Tensor& elements, std::int64_t first) {
  TensorPart::Piece piece{elements, nn::element_runs(parameter, first, elements.count())};
  for (auto& run : piece.runs) run.local -= first;
  return piece;
}

TensorPart whole_part(const NamedTensor& named, bool written_here) {
  const Tensor& tensor = named.tensor;
  DUJIANG_CHECK(tensor.defined(), "tensor {} is undefined", named.name);
  TensorPart part{named.name, tensor.dtype(), tensor.shape(), {}};
  if (written_here) part.pieces.push_back({tensor.contiguous() ? tensor : tensor.clone(), {{0, 0, tensor.count()}}});
  return part;
}

std::vector<TensorPart> whole_parts(std::span<const NamedTensor> tensors, bool written_here) {
  std::vector<TensorPart> parts;
  for (const auto& named : tensors) parts.push_back(whole_part(named, written_here));
  return parts;
}

void read_part(const SafetensorsSet& set, const std::string& name, const nn::Parameter& parameter, const Tensor& target,
               std::int64_t first) {
  const auto& entry = set.entry(name);
  DUJIANG_CHECK(entry.shape == parameter.global && target.contiguous(), "tensor {} {}, read for {} {} into {}", name,
                entry.shape.str(), parameter.path, parameter.global.str(), target.str());
  const Tensor flat = target.view({target.count()});
  const auto runs = nn::element_runs(parameter, first, target.count());
  const auto read = std::accumulate(runs.begin(), runs.end(), std::int64_t{0},
                                    [](std::int64_t sum, const nn::ElementRun& run) { return sum + run.count; });
  if (read < target.count()) target.fill(0.0f);
  for (const auto& run : runs) set.read_elements(name, run.global, flat.narrow(0, run.local - first, run.count));
}

SafetensorsLayout::SafetensorsLayout(const std::string& stem, std::span<const TensorPart> list, std::uint64_t max_bytes,
                                     const Metadata& metadata)
    : places(list.size()) {
  std::vector<std::vector<std::size_t>> groups(1);
  std::set<std::string> names;
  std::uint64_t in_group = 0, total = 0;
  for (std::size_t i = 0; i < list.size(); ++i) {
    DUJIANG_CHECK(names.insert(list[i].name).second, "{}: two tensors are named {}", stem, list[i].name);
    const std::uint64_t bytes = bytes_of(list[i]);
    if (!groups.back().empty() && in_group + bytes > max_bytes) {
      groups.emplace_back();
      in_group = 0;
    }
    places[i].file = groups.size() - 1;
    groups.back().push_back(i);
    in_group += bytes;
    total += bytes;
  }
  for (std::size_t f = 0; f < groups.size(); ++f) {
    const std::string name = groups.size() == 1
                                 ? stem + ".safetensors"
                                 : fmt::format("{}-{:05}-of-{:05}.safetensors", stem, f + 1, groups.size());
    files.push_back(lay_out(name, std::move(groups[f]), list, metadata, places));
  }
  if (files.size() == 1) return;
  nlohmann::ordered_json json;
  json["metadata"]["total_size"] = total;
  nlohmann::ordered_json& weight_map = json["weight_map"] = nlohmann::ordered_json::object();
  for (std::size_t i = 0; i < list.size(); ++i) weight_map[list[i].name] = files[places[i].file].name;
  index_name = stem + ".safetensors.index.json";
  index = json.dump(2) + "\n";
}

void require_written_once(std::span<const TensorPart> list, comm::Communicator& communicator) {
  std::vector<std::int64_t> sums;  // of each tensor: elements, and the ends of runs
  together(communicator, [&] {
    for (const auto& part : list) {
      std::int64_t count = 0;
      std::uint64_t ends = 0;
      for (const auto& piece : part.pieces) {
        check_piece(part, piece);
        for (const auto& run : piece.runs) {
          count += run.count;
          ends += span_sum(run.global, run.count);
        }
      }
      sums.insert(sums.end(), {count, static_cast<std::int64_t>(ends)});
    }
  });
  const Claim lists[] = {{.what = "list of tensors to save", .hash = hash_of_list(list), .details = {}}};
  require_agreement(lists, communicator);
  communicator
      .all_reduce(comm::Buffer{sums.data(), static_cast<std::int64_t>(sums.size()), Dtype::i64, {}}, comm::Reduce::sum,
                  default_stream({}))
      .wait_host();
  for (std::size_t i = 0; i < list.size(); ++i) {
    const std::int64_t written = sums[2 * i], expected = list[i].global.count();
    const auto ends = static_cast<std::int64_t>(span_sum(0, expected));
    if (written == expected && sums[2 * i + 1] == ends) continue;
    fail("tensor {} {}: the ranks would write {} of its {} elements, {}", list[i].name, list[i].global.str(), written,
         expected,
         written < expected   ? "some of them never"
         : written > expected ? "some of them twice"
                              : "but some twice and others never");
  }
}

void create_file(const std::filesystem::path& dir, const SafetensorsLayout::File& file) {
  const PlacedFile made = PlacedFile::create(dir / file.name, file.size);
  made.write_at(0, file.head.data(), file.head.size());
  made.sync();
}

PartWriter::PartWriter(std::filesystem::path dir, const SafetensorsLayout& layout, std::span<const TensorPart> list)
    : dir_(std::move(dir)), layout_(layout), list_(list) {}

// Moves on to a run of which something is left.
bool PartWriter::next_run() {
  for (; tensor_ < list_.size(); ++tensor_, piece_ = 0) {
    const auto& pieces = list_[tensor_].pieces;
    for (; piece_ < pieces.size(); ++piece_, run_ = 0) {
      const auto& runs = pieces[piece_].runs;
      for (; run_ < runs.size(); ++run_, done_ = 0)
        if (done_ < runs[run_].count) return true;
    }
  }
  return false;
}

bool PartWriter::advance(std::uint64_t bytes) {
  constexpr std::uint64_t bytes_at_once = std::uint64_t{4} << 20;  // of which there may be a copy
  bool more = true;
  for (std::uint64_t written = 0; (more = next_run()) && written < bytes;) {
    const auto& part = list_[tensor_];
    const auto& piece = part.pieces[piece_];
    const auto& run = piece.runs[run_];
    const auto& place = layout_.places[tensor_];
    if (open_ != place.file) {
      if (file_) file_->sync();
      file_ = std::make_unique<PlacedFile>(PlacedFile::open(dir_ / layout_.files[place.file].name));
      open_ = place.file;
    }
    const std::uint64_t width = size_of(part.dtype);
    const auto most = static_cast<std::int64_t>(std::max<std::uint64_t>(std::min(bytes, bytes_at_once) / width, 1));
    const std::int64_t count = std::min(run.count - done_, most);
    const Tensor from = piece.read(run.local + done_, count);
    const std::uint64_t amount = static_cast<std::uint64_t>(count) * width;
    file_->write_at(place.begin + static_cast<std::uint64_t>(run.global + done_) * width, from.raw().data, amount);
    done_ += count;
    written += amount;
  }
  if (file_) file_->sync();
  if (!more) file_.reset();
  return more;
}

}  // namespace dujiang::train
