#include "framework/train/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "framework/base/check.h"

namespace dujiang::train {

double learning_rate(const ScheduleSection& schedule, double lr, std::int64_t step, std::int64_t total) {
  if (step <= schedule.warmup) return lr * static_cast<double>(step) / static_cast<double>(schedule.warmup);
  // How much of a phase that ends at `total` has passed, in [0, 1].
  const auto passed = [&](std::int64_t start) {
    const auto length = static_cast<double>(std::max<std::int64_t>(total - start, 1));
    return std::clamp(static_cast<double>(step - start) / length, 0.0, 1.0);
  };
  switch (schedule.name) {
    case ScheduleName::constant:
      return lr;
    case ScheduleName::cosine:
      return schedule.min_lr +
             (lr - schedule.min_lr) * 0.5 * (1.0 + std::cos(std::numbers::pi * passed(schedule.warmup)));
    case ScheduleName::wsd:
      if (schedule.decay == 0) return lr;
      return lr + (schedule.min_lr - lr) * passed(total - schedule.decay);
  }
  fail("unknown schedule");
}

}  // namespace dujiang::train
