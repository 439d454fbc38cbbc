#pragma once
// Batches for training and for evaluation. Step s takes sequences [s * global_batch, (s + 1) * global_batch) of the
// Sampler's order; a rank takes some of them. Which sequences a step holds does not depend on how
// ranks share them.

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <thread>

#include "data/loader/batch.h"
#include "data/loader/sampler.h"
#include "data/shard/dataset.h"

namespace dujiang::data {

struct LoaderConfig {
  std::int64_t sequence_length = 0;
  std::int64_t global_batch = 0;  ///< sequences per step, over all ranks
  Packing packing = Packing::documents;
  std::uint64_t seed = 0;  ///< not used by EvalReader
  std::int64_t first = 0;  ///< this rank's part of the global batch: `count` sequences from here, every stride-th
  std::int64_t count = 0;
  std::int64_t stride = 1;
};

/// Where a loader stands, and what its order depends on. The same on all ranks.
struct LoaderState {
  std::int64_t next_sequence = 0;  ///< of the first sequence of the next step
  std::string dataset;             ///< Dataset::fingerprint()
  std::int64_t sequence_length = 0;
  std::int64_t global_batch = 0;
  std::string packing;
  std::uint64_t seed = 0;
  bool operator==(const LoaderState&) const = default;
};
void to_json(nlohmann::json& json, const LoaderState& state);
/// Throws nlohmann::json::exception when a field is missing or of another type.
void from_json(const nlohmann::json& json, LoaderState& state);

/// Endless batches in shuffled order. A thread of its own prepares `prefetch` batches ahead; with 0 there is none and
/// next() does the work. Used by one thread at a time.
class DataLoader {
 public:
  using State = LoaderState;

  /// UserError for sizes below 1 or a part outside the global batch.
  DataLoader(std::shared_ptr<const Dataset> dataset, LoaderConfig config, int prefetch = 2);
  ~DataLoader();
  DataLoader(const DataLoader&) = delete;
  DataLoader& operator=(const DataLoader&) = delete;

  /// The next step's batch, into the memory of `batch` where it fits. Always true: epochs follow one another without
  /// end. Rethrows what failed in the thread.
  bool next(Batch& batch);

  /// As of the last next(), whatever has been prepared since.
  State state() const;
  /// Goes on where `state` stood. UserError naming every field that differs when it is of other data or settings.
  void restore(const State& state);

  std::int64_t sequences_per_epoch() const { return sampler_.sequences_per_epoch(); }

 private:
  void produce(std::int64_t sequence);
  void stop();

  std::shared_ptr<const Dataset> dataset_;
  LoaderConfig config_;
  int prefetch_;
  Sampler sampler_;  // the thread's, while there is one
  std::int64_t next_sequence_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Batch> ready_, spare_;
  std::exception_ptr failure_;
  bool stopping_ = false;
  std::thread thread_;
};

/// One pass over a split in stored order. Every rank gets the same number of batches, all of `count` sequences; what
/// lies past the end is padding of weight 0.
class EvalReader {
 public:
  EvalReader(std::shared_ptr<const Dataset> dataset, LoaderConfig config);

  /// False at the end of the pass.
  bool next(Batch& batch);
  void rewind() { next_sequence_ = 0; }
  std::int64_t sequences() const { return sampler_.sequences_per_epoch(); }

 private:
  LoaderConfig config_;
  Sampler sampler_;
  std::int64_t next_sequence_ = 0;
};

}  // namespace dujiang::data
