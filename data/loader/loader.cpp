#include "data/loader/loader.h"

#include <fmt/ranges.h>

#include <string>
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

DataLoader::DataLoader(std::vector<Component> components, LoaderConfig config, int prefetch)
    : components_(std::move(components)), config_(std::move(config)), prefetch_(prefetch) {
  check(config_);
  DUJIANG_CHECK(prefetch >= 0, "prefetch is {}", prefetch);
  std::vector<std::vector<Generation>> generations;
  for (const auto& component : components_) generations.push_back(first_generation(component));
  open(std::move(generations));
}

DataLoader::DataLoader(std::shared_ptr<const Dataset> dataset, LoaderConfig config, int prefetch)
    : DataLoader(std::vector<Component>{{std::move(dataset), ""}}, std::move(config), prefetch) {}

void DataLoader::open(std::vector<std::vector<Generation>> generations) {
  generations_ = std::move(generations);
  sequences_ = std::make_unique<Sequences>(components_, config_.blend, generations_, config_.sequence_length,
                                           config_.packing, config_.seed);
}

DataLoader::~DataLoader() {
  stop();
}

bool DataLoader::next(Batch& batch) {
  if (prefetch_ == 0) {
    sequences_->fill(next_sequence_ + config_.first, config_.count, batch, config_.stride);
  } else {
    if (!thread_.joinable()) thread_ = std::thread(&DataLoader::produce, this, next_sequence_);
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !ready_.empty() || failure_; });
    if (ready_.empty()) std::rethrow_exception(failure_);
    std::swap(batch, ready_.front());
    spare_.push_back(std::move(ready_.front()));  // the caller's old memory serves again
    ready_.pop_front();
    lock.unlock();  // first, or who is woken waits for it
    changed_.notify_one();
  }
  next_sequence_ += config_.global_batch;
  return true;
}

void DataLoader::produce(std::int64_t sequence) {
  try {
    for (;; sequence += config_.global_batch) {
      Batch batch;
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || ready_.size() < static_cast<std::size_t>(prefetch_); });
      if (stopping_) return;
      if (!spare_.empty()) {
        batch = std::move(spare_.back());
        spare_.pop_back();
      }
      lock.unlock();
      sequences_->fill(sequence + config_.first, config_.count, batch, config_.stride);
      lock.lock();
      ready_.push_back(std::move(batch));
      lock.unlock();
      changed_.notify_one();
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
  LoaderState state{next_sequence_,
                    config_.sequence_length,
                    config_.global_batch,
                    std::string(name_of(config_.packing)),
                    config_.seed,
                    sequences_->blend().phases(),
                    {}};
  for (std::size_t c = 0; c < components_.size(); ++c)
    state.components.push_back({components_[c].source, generations_[c]});
  return state;
}

void DataLoader::restore(const LoaderState& state) {
  const LoaderState here = this->state();
  std::vector<std::string> faults;
  auto compare = [&](const std::string& field, const auto& saved, const auto& now) {
    if (!(saved == now)) faults.push_back(fmt::format("{} was {}, now is {}", field, saved, now));
  };
  // Weights of what has been seen; those of what is to come may change.
  const auto seen_weights = [&](const std::vector<BlendPhase>& blend) {
    std::string text;
    for (const auto& phase : blend)
      if (phase.from < state.next_sequence)
        text += fmt::format("{}{} from sequence {}", text.empty() ? "" : ", ", phase.weights, phase.from);
    return text;
  };
  compare("sequence_length", state.sequence_length, here.sequence_length);
  compare("global_batch", state.global_batch, here.global_batch);
  compare("packing", state.packing, here.packing);
  compare("seed", state.seed, here.seed);
  compare("the number of blended components", state.components.size(), components_.size());
  if (faults.empty()) {
    compare("the blend", seen_weights(state.blend), seen_weights(here.blend));
    for (std::size_t c = 0; c < components_.size(); ++c)
      compare(fmt::format("the source of component {}", c), state.components[c].source, components_[c].source);
  }
  if (!faults.empty())
    fail_user("cannot resume, the order of {} would differ: {}", components_[0].name(), fmt::join(faults, "; "));
  if (state.next_sequence < 0) fail_user("cannot resume at sequence {}", state.next_sequence);
  std::vector<std::vector<Generation>> generations;
  for (std::size_t c = 0; c < components_.size(); ++c)
    generations.push_back(continued(components_[c], state.components[c].generations,
                                    sequences_->blend().count(c, state.next_sequence), config_.growth,
                                    config_.sequence_length));
  stop();
  open(std::move(generations));
  next_sequence_ = state.next_sequence;
}

std::vector<DataLoader::Progress> DataLoader::progress() const {
  std::vector<Progress> all;
  for (std::size_t c = 0; c < components_.size(); ++c) {
    const std::int64_t given = sequences_->blend().count(c, next_sequence_);
    all.push_back({components_[c].name(), given, sequences_->samplers()[c].epochs(given)});
  }
  return all;
}

std::int64_t DataLoader::steps_in(double epochs) const {
  if (components_.size() > 1) fail_user("a blend has no epochs of its own: set train.steps instead of train.epochs");
  return (sequences_->samplers()[0].sequences_in(epochs) + config_.global_batch - 1) / config_.global_batch;
}

EvalReader::EvalReader(std::shared_ptr<const Dataset> dataset, LoaderConfig config)
    : config_(std::move(config)),
      sequences_({{dataset, ""}}, {}, {first_generation({dataset, ""})}, config_.sequence_length, config_.packing, {}) {
  check(config_);
}

bool EvalReader::next(Batch& batch) {
  if (next_sequence_ >= sequences()) return false;
  sequences_.fill(next_sequence_ + config_.first, config_.count, batch, config_.stride, sequences());
  next_sequence_ += config_.global_batch;
  return true;
}

}  // namespace dujiang::data
