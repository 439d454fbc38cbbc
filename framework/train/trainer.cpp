#include "framework/train/trainer.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>

#include "comm/watch/trace.h"
#include "data/loader/loader.h"
#include "data/tokenizer/tokenizer.h"
#include "framework/base/allocator.h"
#include "framework/train/agreement.h"
#include "framework/train/checkpoint.h"
#include "framework/train/evaluate.h"
#include "framework/train/gemm_ceiling.h"
#include "framework/train/lr_schedule.h"
#include "framework/train/metrics.h"
#include "framework/train/rank_threads.h"
#include "framework/train/stop_signal.h"
#include "framework/train/train_step.h"
#include "framework/train/training_data.h"

namespace dujiang::train {
namespace {

namespace fs = std::filesystem;
using Seconds = std::chrono::duration<double>;

double ms_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

// "1 h 02 min", "3 min 20 s", "12 s"
std::string readable(double seconds) {
  const auto s = static_cast<std::int64_t>(std::lround(seconds));
  if (s >= 3600) return fmt::format("{} h {:02} min", s / 3600, s % 3600 / 60);
  if (s >= 60) return fmt::format("{} min {:02} s", s / 60, s % 60);
  return fmt::format("{} s", s);
}

// What the operations of a communicator came to, by kind.
using OpStats = std::array<comm::OpStats, comm::op_count>;

OpStats stats_of(const comm::Communicator& communicator) {
  OpStats stats;
  for (std::size_t op = 0; op < stats.size(); ++op) stats[op] = communicator.stats(static_cast<comm::Op>(op));
  return stats;
}

// By axis of the mesh; "world": what all ranks did together, where that is no axis.
using CommStats = std::map<std::string, OpStats>;

CommStats stats_of(const parallel::Mesh& mesh) {
  CommStats stats;
  bool covered = false;
  for (const auto axis : {parallel::Axis::dp, parallel::Axis::tp}) {
    const auto& ranks = mesh.along(axis);
    if (ranks.size() == 1 && mesh.world().size() > 1) continue;
    if (&ranks == &mesh.world() && std::exchange(covered, true)) continue;
    stats[std::string(parallel::name_of(axis))] = stats_of(ranks);
  }
  if (!covered) stats["world"] = stats_of(mesh.world());
  return stats;
}

// {"all_reduce": {"calls": 3, "bytes": 4096, "ms": 0.2, "exposed_ms": 0.1}, ...} of what ran in between.
nlohmann::ordered_json difference(const OpStats& before, const OpStats& after) {
  auto json = nlohmann::ordered_json::object();
  for (std::size_t op = 0; op < after.size(); ++op) {
    if (after[op].calls == before[op].calls) continue;
    json[std::string(comm::name_of(static_cast<comm::Op>(op)))] = {
        {"calls", after[op].calls - before[op].calls},
        {"bytes", after[op].bytes - before[op].bytes},
        {"ms", (after[op].seconds - before[op].seconds) * 1e3},
        {"exposed_ms", (after[op].exposed_seconds - before[op].exposed_seconds) * 1e3}};
  }
  return json;
}

nlohmann::ordered_json difference(const CommStats& before, const CommStats& after) {
  auto json = nlohmann::ordered_json::object();
  for (const auto& [axis, stats] : after) json[axis] = difference(before.at(axis), stats);
  return json;
}

class Run {
 public:
  Run(const Config& config, comm::Communicator& communicator)
      : config_(config),
        communicator_(communicator),
        threads_(set_rank_threads(config.train.threads, communicator)),
        directory_(config.run_directory()) {
    open_tokenizer();
    model_ = std::make_unique<models::Qwen3>(config_.model);
    step_ = std::make_unique<TrainStep>(*model_, communicator_, step_options(config_));
    open_data();
  }

  // The trace is written at failures too.
  ~Run() {
    if (!trace_) return;
    try {
      trace_->save();
    } catch (const std::exception& e) {
      spdlog::error("{}", e.what());
    }
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  TrainOutcome run(const TrainOptions& options, const StopSignal& signal) {
    start(options.resume);
    TrainOutcome outcome;
    outcome.step = done_;
    data::Batch batch;
    interval_start_ = std::chrono::steady_clock::now();
    while (done_ < total_ && !outcome.stopped) {
      const auto begin = std::chrono::steady_clock::now();
      const auto comm_before = stats_of(step_->mesh());
      loader_->next(batch);
      const double data_ms = ms_since(begin);
      const double lr = learning_rate(config_.schedule, config_.optimizer.lr, done_ + 1, total_);
      const auto result = step_->run(batch, config_.train.micro_batch, done_ + 1, lr);
      ++done_;
      seen_ += config_.train.global_batch * config_.data.sequence_length;
      outcome.loss = result.loss;
      record(result, lr, data_ms, ms_since(begin), comm_before);
      if (config_.train.eval_every > 0 && (done_ % config_.train.eval_every == 0 || done_ == total_)) evaluate();
      outcome.stopped = done_ < total_ && stop_requested(signal);
      const bool due = config_.checkpoint.every > 0 && done_ % config_.checkpoint.every == 0;
      if (due || outcome.stopped || done_ == total_) outcome.checkpoint = save();
    }
    outcome.step = done_;
    if (leader())
      for (const auto& [name, sequences, epochs] : loader_->progress())
        spdlog::info("{} gave {} sequences, {:.2f} epochs", name, sequences, epochs);
    return outcome;
  }

 private:
  bool leader() const { return communicator_.rank() == 0; }
  fs::path checkpoints() const { return directory_ / "checkpoints"; }

  void open_tokenizer() {
    tokenizer_ = data::load_tokenizer(config_.tokenizer.path);
    if (config_.model.vocab_size == 0) config_.model.vocab_size = tokenizer_->vocab_size();
    if (config_.model.eos_token_ids.empty() && tokenizer_->eos_id() >= 0)
      config_.model.eos_token_ids = {tokenizer_->eos_id()};
  }

  void open_data() {
    const auto components = open_components(config_.data);
    std::string fingerprints;
    for (const auto& component : components) {
      check_tokenizer(*component.dataset, *tokenizer_);
      fingerprints += (fingerprints.empty() ? "" : " ") + component.dataset->fingerprint();
    }
    const Claim claims[] = {claim("tokenizer", {{"sha256", tokenizer_->sha256()}}),
                            claim("dataset", {{"fingerprint", fingerprints}})};
    require_agreement(claims, communicator_);
    auto loader = loader_config(config_);
    const auto share = step_->share_of(config_.train.global_batch);
    loader.first = share.first;
    loader.count = share.count;
    loader.stride = share.stride;
    loader_ = std::make_unique<data::DataLoader>(components, loader);
    total_ = count_steps();
    if (config_.train.eval_every > 0) {
      const auto& dp = step_->mesh().dp();
      loader.stride = 1;
      loader.count = config_.train.micro_batch;
      loader.global_batch = loader.count * dp.size();
      loader.first = loader.count * dp.rank();
      eval_reader_ = std::make_unique<data::EvalReader>(
          std::make_shared<data::Dataset>(config_.data.path, "valid", read_options(config_.data)), loader);
    }
  }

  std::int64_t count_steps() const {
    return config_.train.steps > 0 ? config_.train.steps : loader_->steps_in(config_.train.epochs.value_or(1.0));
  }

  void check_tokenizer(const data::Dataset& dataset, const data::Tokenizer& tokenizer) const {
    if (tokenizer.sha256() != dataset.info().tokenizer_sha256)
      fail_user(
          "{}: made with another tokenizer (sha256 {}) than tokenizer.path {} (sha256 {}); build the dataset again or "
          "name the tokenizer it was made with",
          dataset.folder().string(), dataset.info().tokenizer_sha256, config_.tokenizer.path, tokenizer.sha256());
    if (tokenizer.vocab_size() > config_.model.vocab_size)
      fail_user("model.vocab_size: {} is smaller than the tokenizer's {} tokens ({})", config_.model.vocab_size,
                tokenizer.vocab_size(), config_.tokenizer.path);
  }

  void start(bool resume) {
    const auto newest = resume ? checkpoint_to_resume(checkpoints(), communicator_) : newest_checkpoint(checkpoints());
    if (newest && !resume)
      fail_user("{} already holds a run (newest checkpoint {}): go on with --resume, or choose another name or log.dir",
                directory_.string(), newest->filename().string());
    if (newest) {
      const auto saved = load_trainer_state(*newest);
      restore_state(saved, *newest);  // first, as another precision has other optimizer tensors
      step_->restore(*newest);
    } else if (!config_.model.from.empty()) {
      step_->load_weights(config_.model.from);
    } else {
      step_->initialise(config_.train.seed);
    }
    check_start();
    if (leader()) {
      write_run_files();
      metrics_ = std::make_unique<MetricsFile>(directory_ / "metrics.jsonl", done_);
      ceiling_gflops_ = gemm_ceiling_gflops(compute_dtype(config_.train.precision), 0.05);
      spdlog::info(
          "{}: {:.1f} M parameters, {} ranks x {}, {} precision, steps {} to {}, {} sequences of {} tokens a "
          "step",
          config_.name, static_cast<double>(models::parameter_count(config_.model)) / 1e6, communicator_.size(),
          threads_.str(), name_of(config_.train.precision), done_ + 1, total_, config_.train.global_batch,
          config_.data.sequence_length);
      if (newest) spdlog::info("resumed from {}", newest->string());
    }
    communicator_.barrier(stream_).wait_host();
    if (config_.comm.trace) {  // from here on the run's folder is there
      constexpr std::size_t kept = 100'000;
      const auto file = fmt::format("comm-trace-rank{}.json", communicator_.rank());
      trace_ = std::make_shared<comm::TraceLog>(directory_ / file, communicator_.rank(), kept);
      communicator_.flight()->keep_trace(trace_);
    }
  }

  // All ranks must go on from the same place, and those that hold the same weights with the same.
  void check_start() const {
    const Claim claims[] = {
        claim("start", {{"steps done", std::to_string(done_)}, {"loader", nlohmann::json(loader_->state()).dump()}}),
        {.what = "set of starting weights",
         .hash = hash_of(step_->shared_values()),
         .group = step_->mesh().tp().rank(),
         .details = {}}};
    require_agreement(claims, communicator_);
  }

  void restore_state(const TrainerState& saved, const fs::path& checkpoint) {
    const auto path = (checkpoint / "trainer_state.json").string();
    try {
      done_ = saved.step;
      seen_ = saved.state.at("tokens").get<std::int64_t>();
      const auto precision = saved.state.at("precision").get<std::string>();
      if (precision != name_of(config_.train.precision))
        fail_user("{}: saved with train.precision {}, the config says {}", path, precision,
                  name_of(config_.train.precision));
      loader_->restore(saved.state.at("loader").get<data::LoaderState>());
      total_ = count_steps();  // as the dataset may have grown
      step_->set_loss_scale({.scale = saved.state.at("loss_scale").get<double>(),
                             .good_steps = saved.state.at("loss_scale_good_steps").get<std::int64_t>()});
    } catch (const nlohmann::json::exception& e) {
      fail_user("{}: {}; the file is damaged or of another version", path, e.what());
    }
    if (done_ > total_) fail_user("{}: at step {}, beyond train.steps {}", path, done_, total_);
  }

  void write_run_files() const {
    fs::create_directories(directory_);
    const auto write = [&](const char* name, const std::string& text) {
      std::ofstream out(directory_ / name, std::ios::trunc);
      out << text << std::flush;
      if (!out) fail_user("{}: cannot be written", (directory_ / name).string());
    };
    write("config.yaml", to_yaml(config_));
    write("loader.json", nlohmann::json(loader_->state()).dump(2) + "\n");  // for `dujiang data trace`
    char host[256] = {};
    gethostname(host, sizeof host - 1);
    write("environment.json", nlohmann::ordered_json{{"host", host},
                                                     {"ranks", communicator_.size()},
                                                     {"threads_per_rank", threads_.threads},
                                                     {"transport", std::string(communicator_.transport())},
                                                     {"precision", std::string(name_of(config_.train.precision))}}
                                      .dump(2) +
                                  "\n");
  }

  // Passes over each component of the blend so far.
  nlohmann::ordered_json epochs() const {
    auto json = nlohmann::ordered_json::object();
    for (const auto& component : loader_->progress()) json[component.name] = component.epochs;
    return json;
  }

  void record(const StepResult& result, double lr, double data_ms, double step_ms, const CommStats& comm_before) {
    if (!leader()) return;
    const auto tokens = static_cast<double>(config_.train.global_batch * config_.data.sequence_length);
    nlohmann::ordered_json entry{{"step", done_},
                                 {"loss", result.loss},
                                 {"lr", lr},
                                 {"grad_norm", result.grad_norm},
                                 {"tokens", seen_},
                                 {"epochs", epochs()},
                                 {"tokens_per_s", tokens / step_ms * 1e3},
                                 {"step_ms", step_ms},
                                 {"data_ms", data_ms},
                                 {"forward_ms", result.forward_ms},
                                 {"backward_ms", result.backward_ms},
                                 {"comm_exposed_ms", result.comm_exposed_ms},
                                 {"optimizer_ms", result.optimizer_ms},
                                 {"comm", difference(comm_before, stats_of(step_->mesh()))}};
    if (config_.train.precision == Precision::fp16) {
      entry["loss_scale"] = step_->loss_scale().scale;
      entry["skipped"] = result.skipped;
    }
    metrics_->write(entry);
    interval_steps_ += 1;
    if (done_ % config_.log.every != 0 && done_ != total_) return;
    const double seconds = Seconds(std::chrono::steady_clock::now() - interval_start_).count();
    const double speed = tokens * static_cast<double>(interval_steps_) / seconds;
    const double gflops = speed * models::training_flops_per_token(config_.model, config_.data.sequence_length) / 1e9;
    const double left = seconds / static_cast<double>(interval_steps_) * static_cast<double>(total_ - done_);
    spdlog::info(
        "step {}/{}  loss {:.4f}  lr {:.2e}  norm {:.2f}  {:.0f} tokens/s  {:.0f} % of the GEMM ceiling  {} left",
        done_, total_, result.loss, lr, result.grad_norm, speed,
        100.0 * gflops / (ceiling_gflops_ * communicator_.size()), readable(left));
    interval_start_ = std::chrono::steady_clock::now();
    interval_steps_ = 0;
  }

  void evaluate() {
    const auto begin = std::chrono::steady_clock::now();
    const double loss = evaluate_split(*model_, *eval_reader_, config_.train.eval_batches, step_->mesh().dp());
    if (leader()) {
      metrics_->write({{"step", done_}, {"eval_loss", loss}, {"eval_ms", ms_since(begin)}});
      spdlog::info("step {}  held-out loss {:.4f} per token", done_, loss);
    }
    interval_start_ += std::chrono::steady_clock::now() - begin;
  }

  bool stop_requested(const StopSignal& signal) {
    std::int32_t flag = signal.received();
    communicator_.all_reduce(comm::Buffer{&flag, 1, Dtype::i32, {}}, comm::Reduce::max, stream_).wait_host();
    if (flag != 0 && leader()) spdlog::info("signal {} received: saving after step {} and ending", flag, done_);
    return flag != 0;
  }

  fs::path save() {
    const auto begin = std::chrono::steady_clock::now();
    CheckpointContents contents;
    contents.model = config_.model;
    contents.dtype = compute_dtype(config_.train.precision);
    contents.weights = step_->weights();
    contents.optimizer = step_->optimizer_state();
    contents.tokenizer = config_.tokenizer.path;
    contents.state = {{"tokens", seen_},
                      {"precision", std::string(name_of(config_.train.precision))},
                      {"loader", loader_->state()},
                      {"loss_scale", step_->loss_scale().scale},
                      {"loss_scale_good_steps", step_->loss_scale().good_steps}};
    const auto path = save_checkpoint(checkpoints(), done_, contents, config_.checkpoint.keep, communicator_);
    if (leader()) spdlog::info("saved {}", path.string());
    interval_start_ += std::chrono::steady_clock::now() - begin;
    return path;
  }

  Config config_;
  comm::Communicator& communicator_;
  RankThreads threads_;
  fs::path directory_;
  Stream& stream_ = default_stream({});
  std::unique_ptr<data::Tokenizer> tokenizer_;
  std::unique_ptr<data::DataLoader> loader_;
  std::unique_ptr<data::EvalReader> eval_reader_;
  std::unique_ptr<models::Qwen3> model_;
  std::unique_ptr<TrainStep> step_;
  std::unique_ptr<MetricsFile> metrics_;
  std::shared_ptr<comm::TraceLog> trace_;
  std::int64_t done_ = 0, total_ = 0, seen_ = 0;
  std::chrono::steady_clock::time_point interval_start_;
  std::int64_t interval_steps_ = 0;
  double ceiling_gflops_ = 1;
};

}  // namespace

TrainOutcome train(const Config& config, const TrainOptions& options, comm::Communicator& communicator) {
  const StopSignal signal(communicator.size() == 1);  // from here on: start-up may take a while
  const Claim claims[] = {program_claim(), yaml_claim("configuration", to_yaml(config))};
  require_agreement(claims, communicator);
  return Run(config, communicator).run(options, signal);
}

}  // namespace dujiang::train
