#pragma once
// Checkpoints: directories that Hugging Face transformers loads as they stand, with what training needs to go on.
//
//   ROOT/step-000200/
//     config.json, generation_config.json, model*.safetensors, the tokenizer's files
//     optimizer/optimizer*.safetensors   f32, named PARAMETER.master, .m, .v; the metadata key "boxes" holds JSON:
//                                        {name: {"global": shape, "offset": [...]}}, the part of the whole that the
//                                        entry is (today: all of it, from 0)
//     trainer_state.json                 written last: format, step, the caller's state, and every file's size
//
// A checkpoint appears whole or not at all: it is written as ROOT/.step-000200.tmp, fsynced and renamed.

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "framework/models/model_config.h"
#include "framework/train/safetensors.h"

namespace dujiang::train {

struct CheckpointContents {
  models::ModelConfig model;
  Dtype dtype = Dtype::f32;                         ///< of the weights, for config.json
  std::vector<NamedTensor> weights;                 ///< by their Hugging Face names; lm_head.weight absent when tied
  std::vector<NamedTensor> optimizer;               ///< f32; may be empty
  std::filesystem::path tokenizer;                  ///< directory whose tokenizer files are copied; empty: none
  nlohmann::json state = nlohmann::json::object();  ///< the trainer's: loader, loss scale, ...
  std::uint64_t max_file_bytes = std::uint64_t{4} << 30;
};

/// Writes ROOT/step-NNNNNN (replacing one of that step), removes what killed saves left behind, then all but the
/// `keep` newest complete checkpoints; the one just written always stays. keep >= 1. Returns its path.
/// UserError naming the file when it cannot be written: nothing of it is left, and older checkpoints are untouched.
/// Call it on one rank only.
std::filesystem::path save_checkpoint(const std::filesystem::path& root, std::int64_t step,
                                      const CheckpointContents& contents, std::int64_t keep);

/// The complete checkpoint of the highest step under `root`: one whose trainer_state.json is sound and whose files
/// have the sizes it lists.
std::optional<std::filesystem::path> newest_checkpoint(const std::filesystem::path& root);

struct TrainerState {
  std::int64_t step = 0;
  nlohmann::json state;
};
/// UserError naming file and field.
TrainerState load_trainer_state(const std::filesystem::path& dir);

/// UserError naming DIR/config.json and each field in which it differs, when `dir` holds another model.
void require_same_model(const std::filesystem::path& dir, const models::ModelConfig& expected);

struct ExpectedTensor {
  std::string name;
  Shape shape;
};
/// Opens DIR/model*.safetensors, of ours or of transformers', in any of f32, bf16 and f16. UserError listing every
/// tensor that is missing, not expected, of another shape or not floating, each with its file. A lm_head.weight that
/// is not expected (tied embeddings) is passed over.
SafetensorsSet load_model_tensors(const std::filesystem::path& dir, std::span<const ExpectedTensor> expected);

/// Opens DIR/optimizer with the same checks for `expected`, whose names carry .master, .m, .v; f32 only.
SafetensorsSet load_optimizer_tensors(const std::filesystem::path& dir, std::span<const ExpectedTensor> expected);

}  // namespace dujiang::train
