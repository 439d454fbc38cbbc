#pragma once
// A model directory as something to run: weights without gradients or optimizer.

#include <filesystem>
#include <memory>

#include "framework/models/qwen3.h"

namespace dujiang::train {

/// The model of `dir` (a checkpoint of ours or a directory that transformers wrote) with weights in `dtype`. UserError
/// naming file and field or tensor when it can't be.
std::unique_ptr<models::Qwen3> load_model(const std::filesystem::path& dir, Dtype dtype);

}  // namespace dujiang::train
