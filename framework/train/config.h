#pragma once
// The YAML file that describes an experiment, typed and validated. Every key, its default, its documentation line and
// its check stand in one table (config_table.cpp), from which reading, to_yaml() and config_reference() all work.

#include <array>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "comm/watch/watchdog.h"
#include "framework/base/dtype.h"
#include "framework/models/model_config.h"
#include "framework/train/data_config.h"

namespace dujiang::train {

enum class Precision { fp32, bf16, fp16 };
enum class ScheduleName { cosine, wsd, constant };
/// Which activations are computed again in the backward pass instead of being kept. Attention and blocks include what
/// is elementwise.
enum class Recompute { none, elementwise, attention, block };

std::string_view name_of(Precision precision);
std::string_view name_of(ScheduleName schedule);
std::string_view name_of(Recompute recompute);

struct ModelSection : models::ModelConfig {
  std::string from;  ///< a model directory to start from; its config.json then fills the fields
};

struct TokenizerSection {
  std::string path;  ///< directory
  // The rest is for `dujiang tokenizer train`, named as in data::TrainTokenizerConfig.
  std::string type = "byte_bpe";
  std::int64_t vocab_size = 0;
  std::int64_t sample_bytes = std::int64_t{64} << 20;
  std::string pretokenizer = "qwen2";
  std::int64_t min_frequency = 2;
  std::int64_t max_token_chars = 16;
  double character_coverage = 0.9995;
};

struct TrainSection {
  std::int64_t steps = 0;         ///< 0: `epochs` decides
  std::optional<double> epochs;   ///< passes over the training split
  std::int64_t global_batch = 0;  ///< sequences per step, over all ranks
  std::int64_t micro_batch = 0;   ///< sequences per forward pass of a rank; the last of a step may be smaller
  Precision precision = Precision::bf16;
  std::uint64_t seed = 1;
  Recompute recompute = Recompute::elementwise;
  std::int64_t recompute_every = 1;  ///< block: every so many blocks
  bool strict = false;               ///< the same bits on every layout
  std::int64_t strict_ways = 8;      ///< up to so many ranks along an axis
  std::int64_t eval_every = 0;       ///< steps; 0: never
  std::int64_t eval_batches = 0;     ///< 0: the whole held-out split
  int threads = 0;                   ///< compute threads per rank; 0: what the environment gives
};

/// What differs for the parameters whose path matches: the first group that matches a path decides.
struct ParameterGroup {
  std::string match;  ///< fnmatch(3) pattern of the whole path, in which * crosses dots
  double lr_scale = 1.0;
  std::optional<double> weight_decay;  ///< absent: the rule for all (none on norms)
  bool adamw = false;                  ///< with muon: not for these
  bool trainable = true;
};
/// True when `pattern` covers the whole path.
bool path_matches(const std::string& pattern, const std::string& path);

struct OptimizerSection {
  std::string name = "adamw";
  double lr = 0.0;
  std::array<double, 2> betas{0.9, 0.95};
  double eps = 1e-8;
  double weight_decay = 0.1;
  double grad_clip = 1.0;      ///< norm of the whole gradient; 0: not clipped
  Dtype moments = Dtype::f32;  ///< AdamW's two are kept in: f32 or bf16
  // Muon's, for the matrices of blocks; the others get AdamW.
  double momentum = 0.95;
  bool nesterov = true;
  std::int64_t newton_schulz_steps = 5;
  std::vector<ParameterGroup> groups;
};

struct ScheduleSection {
  ScheduleName name = ScheduleName::cosine;
  std::int64_t warmup = 0;  ///< steps of linear rise from 0
  double min_lr = 0.0;      ///< where cosine and wsd end
  std::int64_t decay = 0;   ///< wsd: steps of the fall at the end
};

/// How ranks share the work; data parallelism takes what the others leave.
struct ParallelSection {
  std::int64_t tensor = 1;  ///< ranks that share a layer
  bool sequence = false;    ///< with tensor above 1: norms and residuals hold rows of their own on each of them
  std::int64_t zero = 0;    ///< ZeRO stage, 0 to 3
};

struct CommSection {
  std::string transport = "auto";  ///< as comm::make_communicator takes it
  std::chrono::milliseconds timeout{120000};
  std::chrono::milliseconds bootstrap_timeout{60000};
  comm::AgreementCheck check = comm::AgreementCheck::first;
  bool trace = false;  ///< a Chrome trace of each rank's operations: comm-trace-rank<r>.json in the run's folder
};

struct CheckpointSection {
  std::int64_t every = 0;  ///< steps; 0: at the end only
  std::int64_t keep = 3;   ///< the newest so many stay
};

struct LogSection {
  std::int64_t every = 10;  ///< steps
  std::string dir;          ///< empty: runs/<name>
};

struct Config {
  std::string name;
  ModelSection model;  ///< vocab_size 0: not given, the tokenizer's
  TokenizerSection tokenizer;
  DataSection data;
  TrainSection train;
  OptimizerSection optimizer;
  ScheduleSection schedule;
  ParallelSection parallel;
  CommSection comm;
  CheckpointSection checkpoint;
  LogSection log;

  std::filesystem::path run_directory() const;
};

/// Which keys must be there: those that the command at hand works with.
enum class Purpose { train, build_data, train_tokenizer, plan };

/// One fault, with where it stands: line and column count from 1; 0 where it is not at a place (a missing key).
struct Fault {
  std::string file;  ///< "command line" for overrides
  int line = 0, column = 0;
  std::string message;
  /// "FILE:LINE:COLUMN: message"
  std::string str() const;
};

/// Every fault at once: unknown keys (with the nearest known one), wrong types, values out of range, missing keys,
/// values that do not fit each other. `overrides` are "key.path=value", the value being YAML.
std::vector<Fault> check_config(const std::filesystem::path& path, const std::vector<std::string>& overrides = {},
                                Purpose purpose = Purpose::train);

/// The config, or a UserError with all that check_config finds, one a line. Relative paths inside stay relative to the
/// working directory.
Config load_config(const std::filesystem::path& path, const std::vector<std::string>& overrides = {},
                   Purpose purpose = Purpose::train);

/// All keys with their values, defaults included; load_config reads it back to the same config.
std::string to_yaml(const Config& config);

/// What decides which documents a build keeps: a line for each setting, defaults included.
std::vector<std::string> data_settings(const Config& config);

/// Every key with type, default and meaning, for people.
std::string config_reference();

}  // namespace dujiang::train
