#include "data/tokenizer/document_sample.h"

#include <algorithm>
#include <cmath>

#include "data/text/hash.h"
#include "framework/base/check.h"
#include "framework/base/philox.h"

namespace dujiang::data {

DocumentSample::DocumentSample(std::int64_t capacity, std::uint64_t seed, const std::vector<TextSource>& sources)
    : capacity_(static_cast<std::size_t>(capacity)),
      part_bytes_(std::clamp<std::size_t>(capacity_ / 64, 64, std::size_t{1} << 20)),
      seed_(seed),
      counts_(sources.size()),
      limit_{std::nextafter(1.0, 2.0), 0, {}} {
  double heaviest = 0;
  for (const TextSource& source : sources) heaviest = std::max(heaviest, source.weight);
  for (const TextSource& source : sources) rates_.push_back(source.weight / heaviest);
}

void DocumentSample::add(std::string_view text, std::uint32_t source) {
  DUJIANG_CHECK(source < counts_.size(), "a document of source {}, where there are {}", source, counts_.size());
  ++counts_[source].documents;
  counts_[source].bytes += static_cast<std::int64_t>(text.size());
  while (!text.empty()) {
    std::size_t end = text.size();
    if (end > part_bytes_) {
      const std::size_t line = text.rfind('\n', part_bytes_ - 1);
      end = line != text.npos ? line + 1 : part_bytes_;
      while ((text[end] & 0xC0) == 0x80) --end;  // not inside a character
    }
    draw(text.substr(0, end), source);
    text.remove_prefix(end);
  }
}

void DocumentSample::draw(std::string_view text, std::uint32_t source) {
  const Hash128 hash = hash128(text);
  // Uniform in (0, 1]; the least likely sources get the highest keys.
  const double uniform = std::ldexp(static_cast<double>((Philox(seed_, hash[0]).bits(hash[1]) >> 11) + 1), -53);
  Part part{uniform / rates_[source], source, {}};
  if (!(part < limit_)) return;
  part.text = text;
  const auto change = [this](const Part& changed, int sign) {
    const auto bytes = sign * static_cast<std::int64_t>(changed.text.size());
    bytes_ += bytes;
    counts_[changed.source].sampled_bytes += bytes;
  };
  change(part, 1);
  heap_.push_back(std::move(part));
  std::push_heap(heap_.begin(), heap_.end());
  while (bytes_ > static_cast<std::int64_t>(capacity_)) {
    std::pop_heap(heap_.begin(), heap_.end());
    change(heap_.back(), -1);
    limit_ = {heap_.back().key, heap_.back().source, {}};
    heap_.pop_back();
  }
}

std::vector<DocumentSample::Part> DocumentSample::take() {
  std::sort(heap_.begin(), heap_.end());
  return std::move(heap_);
}

}  // namespace dujiang::data
