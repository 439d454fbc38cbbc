#pragma once
// Checkpoints: directories that Hugging Face transformers loads as they stand, with what training needs to go on.
//
//   ROOT/step-000200/
//     config.json, generation_config.json, model*.safetensors, the tokenizer's files
//     optimizer/optimizer*.safetensors   PARAMETER.master, .m, .v, .momentum: f32, moments as the run keeps them
//     trainer_state.json                 written last: format, step, the caller's state, and every file's size
//
// Tensors lie in the files whole, in the shape of the whole model: how they were spread over ranks leaves no trace, so
// any layout reads what any other saved. Ranks write their own elements in parallel (safetensors_parts.h) and read
// only what they need, so all of them must see the directory.
// A checkpoint appears whole or not at all: it is written as ROOT/.step-000200.tmp, fsynced and renamed.

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "framework/models/model_config.h"
#include "framework/train/safetensors_parts.h"

namespace dujiang::train {

struct CheckpointContents {
  models::ModelConfig model;
  Dtype dtype = Dtype::f32;                         ///< of the weights, for config.json
  std::vector<TensorPart> weights;                  ///< by their Hugging Face names; lm_head.weight absent when tied
  std::vector<TensorPart> optimizer;                ///< may be empty
  std::filesystem::path tokenizer;                  ///< directory whose tokenizer files are copied; empty: none
  nlohmann::json state = nlohmann::json::object();  ///< the trainer's: loader, loss scale, ...
  std::uint64_t max_file_bytes = std::uint64_t{4} << 30;
};

/// Collective. Writes ROOT/step-NNNNNN (replacing one of that step), removes what killed saves left behind, then all
/// but the `keep` newest complete checkpoints; the one just written always stays. keep >= 1. Returns its path. Every
/// rank brings its pieces of the tensors; of the rest of `contents` rank 0's counts. When a rank cannot write (disk
/// full, directory not shared), all ranks throw the same UserError naming that rank and the file: nothing of the
/// checkpoint is left, and older ones are untouched. Error when an element would not be written exactly once.
/// However long it takes, no rank waits for another longer than 32 MiB take on the disk and some seconds, so the
/// communicator's timeout is not in the way.
std::filesystem::path save_checkpoint(const std::filesystem::path& root, std::int64_t step,
                                      const CheckpointContents& contents, std::int64_t keep,
                                      comm::Communicator& communicator);

/// What keeps a directory from being a complete checkpoint: an unsound trainer_state.json, or the files that are
/// missing or have other sizes than it lists, each with its path. Empty: it is complete.
std::vector<std::string> checkpoint_faults(const std::filesystem::path& dir);

/// The complete checkpoint of the highest step under `root`. `passed_over` gets the faults of higher ones.
std::optional<std::filesystem::path> newest_checkpoint(const std::filesystem::path& root,
                                                       std::vector<std::string>* passed_over = nullptr);

/// Collective: what rank 0 finds, everywhere. Warns of incomplete checkpoints that are newer; UserError that lists
/// their faults when there are checkpoints and none is complete.
std::optional<std::filesystem::path> checkpoint_to_resume(const std::filesystem::path& root,
                                                          comm::Communicator& communicator);

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
  Shape shape;  ///< of the whole
};
/// Opens DIR/model*.safetensors, of ours or of transformers', in any of f32, bf16 and f16. UserError listing every
/// tensor that is missing, not expected, of another shape or not floating, each with its file. A lm_head.weight that
/// is not expected (tied embeddings) is passed over.
SafetensorsSet load_model_tensors(const std::filesystem::path& dir, std::span<const ExpectedTensor> expected);

/// Opens DIR/optimizer with the same checks for `expected`, whose names carry .master, .m, .v or .momentum. A
/// .master is f32; others may be in any floating dtype, so that a run may change optimizer.moments when it resumes.
SafetensorsSet load_optimizer_tensors(const std::filesystem::path& dir, std::span<const ExpectedTensor> expected);

}  // namespace dujiang::train
