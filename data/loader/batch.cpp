#include "data/loader/batch.h"

#include "framework/base/check.h"

namespace dujiang::data {

Batch Batch::slice(std::int64_t first, std::int64_t count) const {
  DUJIANG_CHECK(first >= 0 && count >= 0 && first <= sequences && count <= sequences - first,
                "sequences [{}, {}) of a batch of {}", first, first + count, sequences);
  const std::int64_t begin = first * length, end = begin + count * length;
  auto part = [&](const auto& all) { return std::decay_t<decltype(all)>(all.begin() + begin, all.begin() + end); };
  Batch out{count, length, part(tokens), part(labels), part(loss_weight), part(positions), {}, 0};
  for (const std::int32_t offset : segments)  // every sequence starts a segment, so both ends are among them
    if (offset >= begin && offset <= end) out.segments.push_back(static_cast<std::int32_t>(offset - begin));
  for (const float weight : out.loss_weight) out.weight_sum += weight;
  return out;
}

}  // namespace dujiang::data
