#pragma once
// The learning rate as a function of the step.

#include "framework/train/config.h"

namespace dujiang::train {

/// The rate of step `step` (from 1) of `total`. All rise linearly from 0 over `warmup` steps; then
/// - constant: `lr`;
/// - cosine (Loshchilov & Hutter 2017): half a cosine from `lr` to `min_lr` at `total`;
/// - wsd (Hu et al. 2024, MiniCPM): `lr` until the last `decay` steps, which fall linearly to `min_lr`.
double learning_rate(const ScheduleSection& schedule, double lr, std::int64_t step, std::int64_t total);

}  // namespace dujiang::train
