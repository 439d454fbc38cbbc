#include "ops/loss.h"

#include "framework/base/threads.h"
#include "ops/cpu/arguments.h"
#include "ops/cpu/loss_simd.h"

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
  parallel_ranges(n, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const float w = weights[i * weight.strides[0]];
      losses[i * loss.strides[0]] = w * row({.logits = static_cast<char*>(logits.data) + i * logits.strides[0] * step,
                                             .count = count,
                                             .valid = valid,
                                             .label = label[i * labels.strides[0]],
                                             .factor = grad_scale * w,
                                             .gradient = gradient});
    }
  });
}

[[maybe_unused]] const bool registered = ops::softmax_cross_entropy.add(DeviceType::cpu, softmax_cross_entropy);

}  // namespace
}  // namespace dujiang::ops::cpu
