#pragma once
// Qwen3 over the tensor axis: heads, feed-forward and vocabulary are cut (Shoeybi et al. 2019, "Megatron-LM").

#include "framework/parallel/plan.h"

namespace dujiang::parallel {

Plan qwen3_plan(std::int64_t head_dim);

}  // namespace dujiang::parallel
