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

}  // namespace dujiang::ops::reference
