#include "ops/loss.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "framework/base/threads.h"
#include "ops/cpu/arguments.h"
#include "ops/cpu/loss_simd.h"
#include "ops/cpu/thread_scratch.h"

namespace dujiang::ops::cpu {
namespace {

void softmax_cross_entropy(Stream&, const View& logits, const View& labels, const View& weight, std::int64_t valid,
                           float grad_scale, bool gradient, const View& loss) {
  const char* const op = "softmax_cross_entropy";
  check_arguments(logits.shape.rank() == 2 && is_compute(logits.dtype) && unit_last(logits) &&
                      labels.dtype == Dtype::i32 && weight.dtype == Dtype::f32 && loss.dtype == Dtype::f32 &&
                      labels.shape == Shape({logits.shape[0]}) && weight.shape == labels.shape &&
                      loss.shape == labels.shape,
                  op,
                  "logits [n, v] of f32, bf16 or f16 with unit stride on the last axis, labels i32 [n], weight and "
                  "loss f32 [n]",
                  {{"logits", logits}, {"labels", labels}, {"weight", weight}, {"loss", loss}});
  const std::int64_t n = logits.shape[0], count = logits.shape[1];
  if (n == 0) return;
  DUJIANG_CHECK(valid > 0 && valid <= count, "op {}: expected 1 <= valid <= {} columns, found {}", op, count, valid);
  const auto* label = labels.as<std::int32_t>();
  const auto* weights = weight.as<float>();
  auto* losses = loss.as<float>();
  for (std::int64_t i = 0; i < n; ++i)
    DUJIANG_CHECK(label[i * labels.strides[0]] < valid, "op {}: expected labels below {}, found {} in row {}", op,
                  valid, label[i * labels.strides[0]], i);

  const auto row = loss_table().row[index_of(logits.dtype)];
  const auto step = static_cast<std::int64_t>(size_of(logits.dtype));
  const std::int64_t grain = std::max<std::int64_t>(1, 16384 / count);  // rows: some microseconds of work
  const ThreadScratch scratch(gradient ? loss_scratch(count) * static_cast<std::int64_t>(sizeof(float)) : 0);
  parallel_ranges(n, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const float w = weights[i * weight.strides[0]];
      losses[i * loss.strides[0]] = w * row({.logits = static_cast<char*>(logits.data) + i * logits.strides[0] * step,
                                             .count = count,
                                             .valid = valid,
                                             .label = label[i * labels.strides[0]],
                                             .factor = grad_scale * w,
                                             .scratch = gradient ? static_cast<float*>(scratch.mine()) : nullptr});
    }
  });
}

bool vector_of(const View& v, Dtype dtype, std::int64_t n) {
  return v.dtype == dtype && v.shape == Shape{n};
}
bool table_of(const View& v, Shape shape) {
  return v.dtype == Dtype::f32 && v.shape == shape && v.contiguous();
}

/// Runs body(LossRow, i, whether the row counts) over the rows of a slice.
template <class Body>
void for_slice_rows(const char* op, const View& logits, const View& labels, std::int64_t first, std::int64_t valid,
                    Body&& body) {
  const std::int64_t n = logits.shape[0], count = logits.shape[1];
  DUJIANG_CHECK(first >= 0 && valid > 0, "op {}: columns from {} on, {} valid", op, first, valid);
  const auto* label = labels.as<std::int32_t>();
  for (std::int64_t i = 0; i < n; ++i)
    DUJIANG_CHECK(label[i * labels.strides[0]] < valid, "op {}: expected labels below {}, found {} in row {}", op,
                  valid, label[i * labels.strides[0]], i);
  const auto step = static_cast<std::int64_t>(size_of(logits.dtype));
  const std::int64_t grain = std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(count, 1));
  parallel_ranges(n, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t at = label[i * labels.strides[0]];
      body(LossRow{.logits = static_cast<char*>(logits.data) + i * logits.strides[0] * step,
                   .count = count,
                   .valid = std::clamp<std::int64_t>(valid - first, 0, count),
                   .label = at - first,
                   .factor = 0,
                   .scratch = nullptr},
           i, at >= 0);
    }
  });
}

constexpr const char* slice_shapes =
    "logits [n, v] of f32, bf16 or f16 with unit stride on the last axis, labels i32 [n], weight and loss f32 [n], "
    "statistics f32 [3, n] contiguous";

void softmax_statistics(Stream&, const View& logits, const View& labels, std::int64_t first, std::int64_t valid,
                        const View& statistics) {
  check_arguments(logits.shape.rank() == 2 && is_compute(logits.dtype) && unit_last(logits) &&
                      vector_of(labels, Dtype::i32, logits.shape[0]) && table_of(statistics, {3, logits.shape[0]}),
                  "softmax_statistics", slice_shapes,
                  {{"logits", logits}, {"labels", labels}, {"statistics", statistics}});
  const auto kernel = loss_table().statistics[index_of(logits.dtype)];
  const std::int64_t n = logits.shape[0];
  auto* out = statistics.as<float>();
  for_slice_rows("softmax_statistics", logits, labels, first, valid, [&](const LossRow& row, std::int64_t i, bool on) {
    const auto s = on ? kernel(row) : LossTable::Statistics{-INFINITY, 0, 0};
    out[i] = s.most;
    out[n + i] = s.total;
    out[2 * n + i] = s.at_label;
  });
}

/// The statistics of two slices together. The larger of two maxima is minus infinity where neither has met anything.
LossTable::Statistics joined(const LossTable::Statistics& a, const LossTable::Statistics& b) {
  const float most = std::max(a.most, b.most);
  const auto share = [&](const LossTable::Statistics& s) {
    return s.most == -INFINITY ? s.total : s.total * std::exp2(s.most - most);
  };
  return {most, share(a) + share(b), a.at_label + b.at_label};
}

void combine_softmax_statistics(Stream&, const View& slices, const View& labels, const View& weight, const View& total,
                                const View& loss) {
  const bool three = slices.shape.rank() == 3;
  const std::int64_t count = three ? slices.shape[0] : 0, n = three ? slices.shape[2] : 0;
  check_arguments(three && count > 0 && table_of(slices, {count, 3, n}) && vector_of(labels, Dtype::i32, n) &&
                      vector_of(weight, Dtype::f32, n) && vector_of(loss, Dtype::f32, n) && table_of(total, {3, n}),
                  "combine_softmax_statistics", slice_shapes,
                  {{"slices", slices}, {"labels", labels}, {"weight", weight}, {"total", total}, {"loss", loss}});
  constexpr float ln_2 = 0.693147180559945309f;
  const auto *in = slices.as<float>(), *weights = weight.as<float>();
  auto *out = total.as<float>(), *losses = loss.as<float>();
  parallel_ranges(n, 256, [&](std::int64_t begin, std::int64_t end) {
    std::vector<LossTable::Statistics> s(static_cast<std::size_t>(count));
    for (std::int64_t i = begin; i < end; ++i) {
      for (std::int64_t c = 0; c < count; ++c) {
        const float* at = in + 3 * c * n + i;
        s[static_cast<std::size_t>(c)] = {at[0], at[n], at[2 * n]};
      }
      for (std::size_t distance = 1; distance < s.size(); distance *= 2)
        for (std::size_t c = 0; c + distance < s.size(); c += 2 * distance) s[c] = joined(s[c], s[c + distance]);
      const auto& all = s[0];
      out[i] = all.most;
      out[n + i] = all.total;
      out[2 * n + i] = all.at_label;
      const bool on = labels.as<std::int32_t>()[i * labels.strides[0]] >= 0;
      losses[i * loss.strides[0]] =
          on ? weights[i * weight.strides[0]] * (std::log(all.total) - (all.at_label - all.most) * ln_2) : 0.0f;
    }
  });
}

void softmax_gradient(Stream&, const View& logits, const View& labels, const View& weight, std::int64_t first,
                      std::int64_t valid, float grad_scale, const View& total) {
  check_arguments(logits.shape.rank() == 2 && is_compute(logits.dtype) && unit_last(logits) &&
                      vector_of(labels, Dtype::i32, logits.shape[0]) &&
                      vector_of(weight, Dtype::f32, logits.shape[0]) && table_of(total, {3, logits.shape[0]}),
                  "softmax_gradient", slice_shapes,
                  {{"logits", logits}, {"labels", labels}, {"weight", weight}, {"total", total}});
  const auto kernel = loss_table().gradient[index_of(logits.dtype)];
  const std::int64_t n = logits.shape[0];
  const auto *all = total.as<float>(), *weights = weight.as<float>();
  for_slice_rows("softmax_gradient", logits, labels, first, valid, [&](LossRow row, std::int64_t i, bool on) {
    row.factor = grad_scale * weights[i * weight.strides[0]];
    if (on)
      kernel(row, {all[i], all[n + i], all[2 * n + i]});
    else
      std::memset(row.logits, 0, static_cast<std::size_t>(row.count) * size_of(logits.dtype));
  });
}

[[maybe_unused]] const bool registered =
    ops::softmax_cross_entropy.add(DeviceType::cpu, softmax_cross_entropy) &&
    ops::softmax_statistics.add(DeviceType::cpu, softmax_statistics) &&
    ops::combine_softmax_statistics.add(DeviceType::cpu, combine_softmax_statistics) &&
    ops::softmax_gradient.add(DeviceType::cpu, softmax_gradient);

}  // namespace
}  // namespace dujiang::ops::cpu
