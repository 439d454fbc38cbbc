#include "framework/train/checkpoint.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <set>

#include "framework/base/check.h"
#include "framework/base/files.h"
#include "framework/train/agreement.h"

namespace dujiang::train {

namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

// 1 had the box of the whole that an optimizer's entry was: always all of it. It is read as 2.
constexpr int format_version = 2, oldest_format = 1;
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
    if (const int format = json.at("format").get<int>(); format < oldest_format || format > format_version) {
      fail_user("{}: format: expected {} to {}, found {}: written by another version", path.string(), oldest_format,
                format_version, format);
    }
    json.at("step").get<std::int64_t>();
    json.at("files").get<std::map<std::string, std::uint64_t>>();
    json.at("state");
  } catch (const Json::exception& e) {
    fail_user("{}: damaged: {}", path.string(), e.what());
  }
  return json;
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

void write_state(const fs::path& dir, std::int64_t step, const CheckpointContents& contents) {
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
}

// One checkpoint that need not stay, if there is one.
std::optional<fs::path> superfluous(const fs::path& root, const fs::path& written, std::int64_t keep) {
  std::int64_t kept = 1;  // `written`
  for (const auto& [step, dir] : checkpoints_under(root)) {
    if (dir == written || !checkpoint_faults(dir).empty()) continue;
    if (++kept > keep) return dir;
  }
  return std::nullopt;
}

// One save, as all ranks go through it together. What takes long goes in rounds, as the others wait.
class Save {
 public:
  Save(const fs::path& root, std::int64_t step, const CheckpointContents& contents, std::int64_t keep,
       comm::Communicator& communicator)
      : root_(root),
        step_(step),
        contents_(contents),
        keep_(keep),
        communicator_(communicator),
        final_(root / directory_name(step)),
        temporary_(root / ("." + directory_name(step) + ".tmp")) {
    sets_.push_back({temporary_, contents.weights, {"model", contents.weights, contents.max_file_bytes}});
    if (!contents.optimizer.empty())
      sets_.push_back(
          {temporary_ / "optimizer", contents.optimizer, {"optimizer", contents.optimizer, contents.max_file_bytes}});
  }

  fs::path run() {
    for (const auto& set : sets_) require_written_once(set.list, communicator_);
    try {
      on_rank_0(preparation());
      write_parts();
      on_rank_0({[this] { write_state(temporary_, step_, contents_); }, [this] { publish(temporary_, final_); }});
    } catch (...) {
      // Everyone has stopped writing. Nobody leaves, which may end the job, before all is removed.
      std::error_code ignored;
      if (communicator_.rank() == 0) fs::remove_all(temporary_, ignored);
      if (!communicator_.flight()->poisoned()) communicator_.barrier(default_stream({})).wait_host();
      throw;
    }
    in_rounds(communicator_, [this] { return communicator_.rank() == 0 && clean_up(); });
    return final_;
  }

 private:
  using Tasks = std::vector<std::function<void()>>;
  struct Set {
    fs::path dir;
    std::span<const TensorPart> list;
    SafetensorsLayout layout;
  };

  // One task a round.
  void on_rank_0(const Tasks& tasks) {
    std::size_t next = 0;
    in_rounds(communicator_, [&] {
      if (communicator_.rank() != 0) return false;
      try {
        tasks[next]();
      } catch (const fs::filesystem_error& e) {
        fail_user("{}: cannot be saved: {}", final_.string(), e.what());
      }
      return ++next < tasks.size();
    });
  }

  Tasks preparation() {
    Tasks tasks;
    tasks.push_back([this] {
      fs::create_directories(root_);
      for (const auto& entry : fs::directory_iterator(root_))
        if (is_leftover(entry.path())) fs::remove_all(entry.path());
      for (const auto& set : sets_) fs::create_directory(set.dir);
      write_file(temporary_ / "config.json", models::to_hf_json(contents_.model, contents_.dtype));
      write_file(temporary_ / "generation_config.json", models::generation_config_json(contents_.model));
      if (!contents_.tokenizer.empty()) copy_tokenizer(contents_.tokenizer, temporary_);
    });
    for (const auto& set : sets_) {
      for (const auto& file : set.layout.files) tasks.push_back([&] { create_file(set.dir, file); });
      tasks.push_back([&] {
        if (!set.layout.index.empty()) write_file(set.dir / set.layout.index_name, set.layout.index);
        sync_directory(set.dir);
      });
    }
    return tasks;
  }

  void write_parts() {
    using Clock = std::chrono::steady_clock;
    constexpr std::uint64_t bytes_at_once = std::uint64_t{32} << 20;  // made last before the clock is looked at again
    constexpr std::chrono::seconds round(5);
    for (const auto& set : sets_) {
      PartWriter writer(set.dir, set.layout, set.list);
      in_rounds(communicator_, [&] {
        const auto end = Clock::now() + round;
        bool more = true;
        while (more && Clock::now() < end) more = writer.advance(bytes_at_once);
        return more;
      });
    }
  }

  // Removes one thing; false when there is nothing more.
  bool clean_up() {
    if (fs::exists(temporary_)) {  // the one of this step that was there before
      fs::remove_all(temporary_);
      return true;
    }
    const auto old = superfluous(root_, final_, keep_);
    if (old) remove_checkpoint(*old);
    return old.has_value();
  }

  const fs::path& root_;
  std::int64_t step_;
  const CheckpointContents& contents_;
  std::int64_t keep_;
  comm::Communicator& communicator_;
  fs::path final_, temporary_;
  std::vector<Set> sets_;
};

// Compares what a set holds with what a model needs.
void check_tensors(const SafetensorsSet& set, std::span<const ExpectedTensor> expected) {
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
    const bool half_allowed = !name.ends_with(".master");
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

fs::path save_checkpoint(const fs::path& root, std::int64_t step, const CheckpointContents& contents, std::int64_t keep,
                         comm::Communicator& communicator) {
  DUJIANG_CHECK(keep >= 1 && step >= 0, "save of step {} keeping {}: expected a step and at least one", step, keep);
  return Save(root, step, contents, keep, communicator).run();
}

std::vector<std::string> checkpoint_faults(const fs::path& dir) {
  std::vector<std::string> faults;
  try {
    const Json json = read_state(dir);
    for (const auto& [name, size] : json["files"].items()) {
      const fs::path file = dir / name;
      std::error_code error;
      const auto found = fs::file_size(file, error);
      if (error) {
        faults.push_back(fmt::format("{}: {}", file.string(), fs::exists(file) ? "cannot be read" : "is missing"));
      } else if (const auto expected = size.get<std::uint64_t>(); found != expected) {
        faults.push_back(fmt::format("{}: has {} bytes, expected {}", file.string(), found, expected));
      }
    }
  } catch (const UserError& e) {
    faults.emplace_back(e.what());
  }
  return faults;
}

std::optional<fs::path> newest_checkpoint(const fs::path& root, std::vector<std::string>* passed_over) {
  for (const auto& [step, dir] : checkpoints_under(root)) {
    const auto faults = checkpoint_faults(dir);
    if (faults.empty()) return dir;
    if (passed_over) passed_over->insert(passed_over->end(), faults.begin(), faults.end());
  }
  return std::nullopt;
}

std::optional<fs::path> checkpoint_to_resume(const fs::path& root, comm::Communicator& communicator) {
  std::string found;
  together(communicator, [&] {
    if (communicator.rank() != 0) return;
    std::vector<std::string> faults;
    const auto newest = newest_checkpoint(root, &faults);
    const std::string told = fmt::format("{}", fmt::join(faults, "\n  "));
    if (!newest && !faults.empty()) fail_user("{}: no checkpoint is complete:\n  {}", root.string(), told);
    if (!newest) return;
    if (!faults.empty())
      spdlog::warn("going on from {}, as what is newer is not complete:\n  {}", newest->string(), told);
    found = newest->string();
  });
  found = broadcast_text(found, 0, communicator);
  if (found.empty()) return std::nullopt;
  return found;
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
  check_tensors(set, expected);
  return set;
}

SafetensorsSet load_optimizer_tensors(const fs::path& dir, std::span<const ExpectedTensor> expected) {
  SafetensorsSet set(dir / "optimizer", "optimizer");
  check_tensors(set, expected);
  return set;
}

}  // namespace dujiang::train
