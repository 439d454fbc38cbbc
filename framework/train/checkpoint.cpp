#include "framework/train/checkpoint.h"

#include <fcntl.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <set>

#include "framework/base/check.h"
#include "framework/train/files.h"

namespace dujiang::train {

namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

constexpr int format_version = 1;
constexpr const char* state_file = "trainer_state.json";

// What a tokenizer may consist of; its directory may hold a model too.
constexpr const char* tokenizer_files[] = {"tokenizer.model",   "tokenizer.json",     "tokenizer_config.json",
                                           "vocab.json",        "merges.txt",         "special_tokens_map.json",
                                           "added_tokens.json", "chat_template.jinja"};

std::string directory_name(std::int64_t step) {
  return fmt::format("step-{:06}", step);
}

std::optional<std::int64_t> step_of(const fs::path& dir) {
  const std::string name = dir.filename().string();
  constexpr std::string_view prefix = "step-";
  if (!name.starts_with(prefix)) return std::nullopt;
  std::int64_t step = -1;
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data() + prefix.size(), end, step);
  if (error != std::errc() || stop != end || step < 0) return std::nullopt;
  return step;
}

bool is_leftover(const fs::path& dir) {
  const std::string name = dir.filename().string();
  return name.starts_with(".step-") && name.ends_with(".tmp");
}

// The files of a checkpoint with their sizes, trainer_state.json aside.
Json list_files(const fs::path& dir) {
  Json files = Json::object();
  for (const auto& entry : fs::recursive_directory_iterator(dir)) {
    if (entry.is_regular_file()) files[entry.path().lexically_relative(dir).generic_string()] = entry.file_size();
  }
  return files;
}

Json read_state(const fs::path& dir) {
  const fs::path path = dir / state_file;
  std::ifstream in(path, std::ios::binary);
  if (!in) fail_user("{}: cannot be read: this is not a checkpoint of a training run", path.string());
  Json json;
  try {
    json = Json::parse(in);
    if (json.at("format").get<int>() != format_version) {
      fail_user("{}: format: expected {}, found {}: written by another version", path.string(), format_version,
                json["format"].dump());
    }
    json.at("step").get<std::int64_t>();
    json.at("files").get<std::map<std::string, std::uint64_t>>();
    json.at("state");
  } catch (const Json::exception& e) {
    fail_user("{}: damaged: {}", path.string(), e.what());
  }
  return json;
}

bool is_complete(const fs::path& dir) {
  try {
    const Json json = read_state(dir);
    for (const auto& [name, size] : json["files"].items()) {
      std::error_code error;
      if (fs::file_size(dir / name, error) != size.get<std::uint64_t>() || error) return false;
    }
    return true;
  } catch (const UserError&) {
    return false;
  }
}

// Checkpoints by step, the newest first.
std::vector<std::pair<std::int64_t, fs::path>> checkpoints_under(const fs::path& root) {
  std::vector<std::pair<std::int64_t, fs::path>> found;
  if (!fs::is_directory(root)) return found;
  for (const auto& entry : fs::directory_iterator(root)) {
    if (const auto step = step_of(entry.path()); step && entry.is_directory()) found.emplace_back(*step, entry.path());
  }
  std::sort(found.rbegin(), found.rend());
  return found;
}

// Hidden under its temporary name first, so that a removal that is cut short leaves no half checkpoint.
void remove_checkpoint(const fs::path& dir) {
  const fs::path hidden = dir.parent_path() / ("." + dir.filename().string() + ".tmp");
  fs::rename(dir, hidden);
  fs::remove_all(hidden);
}

void copy_tokenizer(const fs::path& from, const fs::path& to) {
  int copied = 0;
  for (const char* name : tokenizer_files) {
    if (!fs::exists(from / name)) continue;
    copy_file_durably(from / name, to / name);
    ++copied;
  }
  if (copied == 0) fail_user("{}: holds no tokenizer (tokenizer.model or tokenizer.json)", from.string());
}

void write_optimizer(const fs::path& dir, const CheckpointContents& contents) {
  if (contents.optimizer.empty()) return;
  Json boxes = Json::object();
  for (const auto& [name, tensor] : contents.optimizer) {
    DUJIANG_CHECK(tensor.dtype() == Dtype::f32, "optimizer tensor {}: expected f32, found {}", name, tensor.str());
    const auto sizes = tensor.shape().sizes();
    boxes[name] = {{"global", std::vector<std::int64_t>(sizes.begin(), sizes.end())},
                   {"offset", std::vector<std::int64_t>(sizes.size(), 0)}};
  }
  fs::create_directory(dir);
  write_safetensors_set(dir, "optimizer", contents.optimizer, contents.max_file_bytes,
                        {{"format", "pt"}, {"boxes", boxes.dump()}});
  sync_directory(dir);
}

void write_contents(const fs::path& dir, std::int64_t step, const CheckpointContents& contents) {
  write_file(dir / "config.json", models::to_hf_json(contents.model, contents.dtype));
  write_file(dir / "generation_config.json", models::generation_config_json(contents.model));
  write_safetensors_set(dir, "model", contents.weights, contents.max_file_bytes);
  if (!contents.tokenizer.empty()) copy_tokenizer(contents.tokenizer, dir);
  write_optimizer(dir / "optimizer", contents);
  const Json state = {
      {"format", format_version}, {"step", step}, {"files", list_files(dir)}, {"state", contents.state}};
  write_file(dir / state_file, state.dump(2) + "\n");
  sync_directory(dir);
}

// Under its final name in one step; a checkpoint of the same step changes places with it and goes.
void publish(const fs::path& temporary, const fs::path& final) {
  const bool replaces = fs::exists(final);
  if (::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, final.c_str(), replaces ? RENAME_EXCHANGE : 0) != 0) {
    fail_user("{}: cannot be put in place: {}", final.string(), std::strerror(errno));
  }
  sync_directory(final.parent_path());
  if (replaces) fs::remove_all(temporary);
}

void prune(const fs::path& root, const fs::path& written, std::int64_t keep) {
  std::int64_t kept = 1;  // `written`
  for (const auto& [step, dir] : checkpoints_under(root)) {
    if (dir == written || !is_complete(dir)) continue;
    if (kept < keep) {
      ++kept;
    } else {
      remove_checkpoint(dir);
    }
  }
}

// Compares what a set holds with what a model needs.
void check_tensors(const SafetensorsSet& set, std::span<const ExpectedTensor> expected, bool half_allowed) {
  std::vector<std::string> faults;
  std::set<std::string> names;
  for (const auto& [name, shape] : expected) {
    names.insert(name);
    if (!set.contains(name)) {
      faults.push_back(fmt::format("{}: tensor {} {} is missing", set.dir().string(), name, shape.str()));
      continue;
    }
    const TensorEntry& entry = set.entry(name);
    const std::string file = set.file_of(name).path().string();
    if (entry.shape != shape) {
      faults.push_back(
          fmt::format("{}: tensor {}: expected shape {}, found {}", file, name, shape.str(), entry.shape.str()));
    }
    if (entry.dtype != Dtype::f32 && !(half_allowed && is_half(entry.dtype))) {
      faults.push_back(fmt::format("{}: tensor {}: expected {}, found {}", file, name,
                                   half_allowed ? "f32, bf16 or f16" : "f32", name_of(entry.dtype)));
    }
  }
  for (const auto& name : set.names()) {
    // Tied embeddings: some writers store the output layer a second time.
    if (names.contains(name) || name == "lm_head.weight") continue;
    faults.push_back(fmt::format("{}: tensor {} {} does not belong to this model", set.file_of(name).path().string(),
                                 name, set.entry(name).shape.str()));
  }
  if (faults.empty()) return;
  constexpr std::size_t shown = 20;
  const std::size_t count = faults.size();
  if (count > shown) {
    faults.resize(shown);
    faults.push_back(fmt::format("... and {} more", count - shown));
  }
  fail_user("{}: the tensors do not fit the model of config.json:\n  {}", set.dir().string(),
            fmt::join(faults, "\n  "));
}

}  // namespace

fs::path save_checkpoint(const fs::path& root, std::int64_t step, const CheckpointContents& contents,
                         std::int64_t keep) {
  DUJIANG_CHECK(keep >= 1 && step >= 0, "save of step {} keeping {}: expected a step and at least one", step, keep);
  const fs::path final = root / directory_name(step), temporary = root / ("." + directory_name(step) + ".tmp");
  try {
    fs::create_directories(root);
    for (const auto& entry : fs::directory_iterator(root)) {
      if (is_leftover(entry.path())) fs::remove_all(entry.path());
    }
    fs::create_directory(temporary);
    write_contents(temporary, step, contents);
    publish(temporary, final);
    prune(root, final, keep);
  } catch (const fs::filesystem_error& e) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    fail_user("{}: cannot be saved: {}", final.string(), e.what());
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    throw;
  }
  return final;
}

std::optional<fs::path> newest_checkpoint(const fs::path& root) {
  for (const auto& [step, dir] : checkpoints_under(root)) {
    if (is_complete(dir)) return dir;
  }
  return std::nullopt;
}

TrainerState load_trainer_state(const fs::path& dir) {
  Json json = read_state(dir);
  return {json["step"].get<std::int64_t>(), std::move(json["state"])};
}

void require_same_model(const fs::path& dir, const models::ModelConfig& expected) {
  const fs::path path = dir / "config.json";
  const auto differences = models::model_differences(expected, models::from_hf_json(path));
  if (!differences.empty()) {
    fail_user("{}: a checkpoint of another model than the config asks for:\n  {}", path.string(),
              fmt::join(differences, "\n  "));
  }
}

SafetensorsSet load_model_tensors(const fs::path& dir, std::span<const ExpectedTensor> expected) {
  SafetensorsSet set(dir, "model");
  check_tensors(set, expected, true);
  return set;
}

SafetensorsSet load_optimizer_tensors(const fs::path& dir, std::span<const ExpectedTensor> expected) {
  SafetensorsSet set(dir / "optimizer", "optimizer");
  check_tensors(set, expected, false);
  return set;
}

}  // namespace dujiang::train
