#include "ops/embedding.h"

#include <algorithm>
#include <cstring>

#include "framework/base/threads.h"
#include "ops/cpu/arguments.h"
#include "ops/cpu/elementwise_simd.h"

namespace dujiang::ops::cpu {
namespace {

void check_tokens(const char* op, const View& tokens, std::int64_t vocabulary) {
  const auto* token = tokens.as<std::int32_t>();
  for (std::int64_t i = 0; i < tokens.shape[0]; ++i) {
    const auto t = token[i * tokens.strides[0]];
    DUJIANG_CHECK(t >= -1 && t < vocabulary, "op {}: token {} at index {} is outside the vocabulary's [0, {})", op, t,
                  i, vocabulary);
  }
}

/// The sign bit alone is -0 in every floating dtype.
void minus_zeros(void* row, std::int64_t n, std::int64_t size) {
  if (size == 4)
    std::fill_n(static_cast<std::uint32_t*>(row), n, 0x80000000u);
  else
    std::fill_n(static_cast<std::uint16_t*>(row), n, std::uint16_t{0x8000});
}

void embedding(Stream&, const View& tokens, const View& table, const View& y) {
  check_arguments(
      tokens.shape.rank() == 1 && tokens.dtype == Dtype::i32 && table.shape.rank() == 2 && is_compute(table.dtype) &&
          unit_last(table) && y.dtype == table.dtype && y.shape == Shape{tokens.shape[0], table.shape[1]} &&
          unit_last(y),
      "embedding",
      "tokens i32 [n], table [v, d] and y [n, d] of one dtype f32, bf16 or f16, unit stride on the last axis",
      {{"tokens", tokens}, {"table", table}, {"y", y}});
  check_tokens("embedding", tokens, table.shape[0]);
  if (y.count() == 0) return;
  const auto size = static_cast<std::int64_t>(size_of(y.dtype));
  const std::int64_t d = y.shape[1];
  parallel_ranges(y.shape[0], 32 * 1024 / d + 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t token = tokens.as<std::int32_t>()[i * tokens.strides[0]];
      char* const row = static_cast<char*>(y.data) + i * y.strides[0] * size;
      if (token < 0)
        minus_zeros(row, d, size);
      else
        std::memcpy(row, static_cast<const char*>(table.data) + token * table.strides[0] * size,
                    static_cast<std::size_t>(d * size));
    }
  });
}

// Every element of dtable belongs to one thread, which meets its tokens in order: threads share out the columns and,
// where there are more threads than 64-column blocks, the tokens by remainder. The bits depend on neither.
void embedding_backward(Stream&, const View& tokens, const View& dy, const View& dtable, bool accumulate) {
  check_arguments(tokens.shape.rank() == 1 && tokens.dtype == Dtype::i32 && dy.shape.rank() == 2 &&
                      is_compute(dy.dtype) && unit_last(dy) && dy.shape[0] == tokens.shape[0] &&
                      dtable.shape.rank() == 2 && dtable.dtype == Dtype::f32 && unit_last(dtable) &&
                      dtable.shape[1] == dy.shape[1],
                  "embedding_backward",
                  "tokens i32 [n], dy [n, d] of f32, bf16 or f16, dtable f32 [v, d], unit stride on the last axis",
                  {{"tokens", tokens}, {"dy", dy}, {"dtable", dtable}});
  check_tokens("embedding_backward", tokens, dtable.shape[0]);
  const std::int64_t n = dy.shape[0], d = dy.shape[1], vocabulary = dtable.shape[0];
  const auto size = static_cast<std::int64_t>(size_of(dy.dtype));
  auto* out = dtable.as<float>();
  if (!accumulate)
    parallel_ranges(vocabulary, 32 * 1024 / (d + 1) + 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) std::fill_n(out + row * dtable.strides[0], d, 0.0f);
    });
  if (dy.count() == 0) return;
  const std::int64_t column_parts = std::clamp<std::int64_t>(d / 64, 1, thread_count());
  const std::int64_t token_parts = n * d < 32 * 1024 ? 1 : thread_count() / column_parts;
  const auto add = elementwise_table().accumulate[index_of(dy.dtype)];
  auto part = [&](std::int64_t p) {
    const std::int64_t begin = d * (p % column_parts) / column_parts, end = d * (p % column_parts + 1) / column_parts;
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t token = tokens.as<std::int32_t>()[i * tokens.strides[0]];
      if (token < 0 || token % token_parts != p / column_parts) continue;
      add(static_cast<const char*>(dy.data) + (i * dy.strides[0] + begin) * size,
          out + token * dtable.strides[0] + begin, end - begin);
    }
  };
  parallel_ranges(column_parts * token_parts, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t p = first; p < last; ++p) part(p);
  });
}

[[maybe_unused]] const bool registered =
    ops::embedding.add(DeviceType::cpu, embedding) && ops::embedding_backward.add(DeviceType::cpu, embedding_backward);

}  // namespace
}  // namespace dujiang::ops::cpu
