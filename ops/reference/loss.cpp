#include "ops/reference/loss.h"

#include <algorithm>
#include <cmath>

#include "ops/reference/access.h"

namespace dujiang::ops::reference {

void softmax_cross_entropy(const View& logits, const View& labels, const View& weight, std::int64_t valid,
                           float grad_scale, bool gradient, const View& loss) {
  for (std::int64_t i = 0; i < logits.shape[0]; ++i) {
    const auto label = static_cast<std::int64_t>(get(labels, {i}));
    const double w = get(weight, {i});
    double most = -INFINITY, total = 0;
    for (std::int64_t j = 0; j < valid; ++j) most = std::max(most, get(logits, {i, j}));
    for (std::int64_t j = 0; j < valid; ++j) total += std::exp(get(logits, {i, j}) - most);
    const double lse = most + std::log(total);
    set(loss, {i}, label < 0 ? 0 : w * (lse - get(logits, {i, label})));
    if (!gradient) continue;
    for (std::int64_t j = 0; j < logits.shape[1]; ++j) {
      const double p = std::exp(get(logits, {i, j}) - lse) - (j == label ? 1 : 0);
      set(logits, {i, j}, label < 0 || j >= valid ? 0 : grad_scale * w * p);
    }
  }
}

void softmax_statistics(const View& logits, const View& labels, std::int64_t first, std::int64_t valid,
                        const View& statistics) {
  const std::int64_t end = std::clamp<std::int64_t>(valid - first, 0, logits.shape[1]);
  for (std::int64_t i = 0; i < logits.shape[0]; ++i) {
    const auto label = static_cast<std::int64_t>(get(labels, {i})) - first;
    const bool on = label + first >= 0;
    double most = -INFINITY, total = 0;
    for (std::int64_t j = 0; on && j < end; ++j) most = std::max(most, get(logits, {i, j}) / std::log(2.0));
    for (std::int64_t j = 0; on && j < end; ++j) total += std::exp2(get(logits, {i, j}) / std::log(2.0) - most);
    set(statistics, {0, i}, most);
    set(statistics, {1, i}, total);
    set(statistics, {2, i}, on && label >= 0 && label < end ? get(logits, {i, label}) / std::log(2.0) : 0);
  }
}

void combine_softmax_statistics(const View& slices, const View& labels, const View& weight, const View& total,
                                const View& loss) {
  for (std::int64_t i = 0; i < labels.shape[0]; ++i) {
    double most = -INFINITY, sum = 0, at_label = 0;
    for (std::int64_t c = 0; c < slices.shape[0]; ++c) most = std::max(most, get(slices, {c, 0, i}));
    for (std::int64_t c = 0; c < slices.shape[0]; ++c) {
      if (get(slices, {c, 0, i}) != -INFINITY) sum += get(slices, {c, 1, i}) * std::exp2(get(slices, {c, 0, i}) - most);
      at_label += get(slices, {c, 2, i});
    }
    set(total, {0, i}, most);
    set(total, {1, i}, sum);
    set(total, {2, i}, at_label);
    const double lse = most * std::log(2.0) + std::log(sum);
    set(loss, {i}, get(labels, {i}) < 0 ? 0 : get(weight, {i}) * (lse - at_label * std::log(2.0)));
  }
}

void softmax_gradient(const View& logits, const View& labels, const View& weight, std::int64_t first,
                      std::int64_t valid, float grad_scale, const View& total) {
  for (std::int64_t i = 0; i < logits.shape[0]; ++i) {
    const auto label = static_cast<std::int64_t>(get(labels, {i}));
    for (std::int64_t j = 0; j < logits.shape[1]; ++j) {
      const double p = std::exp2(get(logits, {i, j}) / std::log(2.0) - get(total, {0, i})) / get(total, {1, i});
      const bool on = label >= 0 && first + j < valid;
      set(logits, {i, j}, on ? grad_scale * get(weight, {i}) * (p - (first + j == label ? 1 : 0)) : 0);
    }
  }
}

}  // namespace dujiang::ops::reference
