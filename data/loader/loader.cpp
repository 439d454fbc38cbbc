#include "data/loader/loader.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "framework/base/check.h"

namespace dujiang::data {
namespace {

void check(const LoaderConfig& config) {
  if (config.global_batch < 1) fail_user("global_batch is {}, expected at least 1", config.global_batch);
  if (config.first < 0 || config.count < 1 || config.stride < 1 ||
      (config.count - 1) * config.stride >= config.global_batch - config.first)
    fail_user("{} sequences from {} on, every {}th, are no part of a global batch of {}", config.count, config.first,
              config.stride, config.global_batch);
}

}  // namespace

void to_json(nlohmann::json& json, const LoaderState& state) {
  json = {
      {"next_sequence", state.next_sequence}, {"dataset", state.dataset}, {"sequence_length", state.sequence_length},
      {"global_batch", state.global_batch},   {"packing", state.packing}, {"seed", state.seed}};
}

void from_json(const nlohmann::json& json, LoaderState& state) {
  json.at("next_sequence").get_to(state.next_sequence);
  json.at("dataset").get_to(state.dataset);
  json.at("sequence_length").get_to(state.sequence_length);
  json.at("global_batch").get_to(state.global_batch);
  json.at("packing").get_to(state.packing);
  json.at("seed").get_to(state.seed);
}

DataLoader::DataLoader(std::shared_ptr<const Dataset> dataset, LoaderConfig config, int prefetch)
    : dataset_(std::move(dataset)),
      config_(config),
      prefetch_(prefetch),
      sampler_(dataset_, config.sequence_length, config.packing, config.seed) {
  check(config_);
  DUJIANG_CHECK(prefetch >= 0, "prefetch is {}", prefetch);
}

DataLoader::~DataLoader() {
  stop();
}

bool DataLoader::next(Batch& batch) {
  if (prefetch_ == 0) {
    sampler_.fill(next_sequence_ + config_.first, config_.count, batch, config_.stride);
  } else {
    if (!thread_.joinable()) thread_ = std::thread(&DataLoader::produce, this, next_sequence_);
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !ready_.empty() || failure_; });
    if (ready_.empty()) std::rethrow_exception(failure_);
    std::swap(batch, ready_.front());
    spare_.push_back(std::move(ready_.front()));  // the caller's old memory serves again
    ready_.pop_front();
    changed_.notify_all();
  }
  next_sequence_ += config_.global_batch;
  return true;
}

void DataLoader::produce(std::int64_t sequence) {
  try {
    for (;; sequence += config_.global_batch) {
      Batch batch;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return stopping_ || ready_.size() < static_cast<std::size_t>(prefetch_); });
        if (stopping_) return;
        if (!spare_.empty()) {
          batch = std::move(spare_.front());
          spare_.pop_front();
        }
      }
      sampler_.fill(sequence + config_.first, config_.count, batch, config_.stride);
      const std::scoped_lock lock(mutex_);
      ready_.push_back(std::move(batch));
      changed_.notify_all();
    }
  } catch (...) {
    const std::scoped_lock lock(mutex_);
    failure_ = std::current_exception();
    changed_.notify_all();
  }
}

void DataLoader::stop() {
  if (!thread_.joinable()) return;
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  thread_.join();
  stopping_ = false;
  failure_ = nullptr;
  ready_.clear();
}

LoaderState DataLoader::state() const {
  return {next_sequence_,
          dataset_->fingerprint(),
          config_.sequence_length,
          config_.global_batch,
          std::string(name_of(config_.packing)),
          config_.seed};
}

void DataLoader::restore(const LoaderState& state) {
  const LoaderState here = this->state();
  std::vector<std::string> faults;
  auto compare = [&](const char* field, const auto& saved, const auto& now) {
    if (!(saved == now)) faults.push_back(fmt::format("{} was {}, now is {}", field, saved, now));
  };
  compare("dataset", state.dataset, here.dataset);
  compare("sequence_length", state.sequence_length, here.sequence_length);
  compare("global_batch", state.global_batch, here.global_batch);
  compare("packing", state.packing, here.packing);
  compare("seed", state.seed, here.seed);
  if (!faults.empty())
    fail_user("cannot resume, the order of {} would differ: {}", dataset_->folder().string(), fmt::join(faults, "; "));
  if (state.next_sequence < 0) fail_user("cannot resume at sequence {}", state.next_sequence);
  stop();
  next_sequence_ = state.next_sequence;
}

EvalReader::EvalReader(std::shared_ptr<const Dataset> dataset, LoaderConfig config)
    : config_(config), sampler_(std::move(dataset), config.sequence_length, config.packing, std::nullopt) {
  check(config_);
}

bool EvalReader::next(Batch& batch) {
  if (next_sequence_ >= sequences()) return false;
  sampler_.fill(next_sequence_ + config_.first, config_.count, batch, config_.stride, sequences());
  next_sequence_ += config_.global_batch;
  return true;
}

}  // namespace dujiang::data
