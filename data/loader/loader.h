#pragma once
// Batches for training and for evaluation. Step s takes sequences [s * global_batch, (s + 1) * global_batch); a rank
// takes some of them. Which sequences a step holds does not depend on how ranks share them.

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "data/loader/batch.h"
#include "data/loader/loader_state.h"
#include "data/loader/sequences.h"

namespace dujiang::data {

struct LoaderConfig {
  std::int64_t sequence_length = 0;
  std::int64_t global_batch = 0;  ///< sequences per step, over all ranks
  Packing packing = Packing::documents;
  std::uint64_t seed = 0;  ///< not used by EvalReader
  std::int64_t first = 0;  ///< this rank's part of the global batch: `count` sequences from here, every stride-th
  std::int64_t count = 0;
  std::int64_t stride = 1;
  std::vector<BlendPhase> blend{};  ///< weights of the components; may be empty for one
  Growth growth = Growth::refuse;
};

/// Endless batches in shuffled order. A thread of its own prepares `prefetch` batches ahead; with 0 there is none and
/// next() does the work. Used by one thread at a time.
class DataLoader {
 public:
  using State = LoaderState;

  /// UserError for sizes below 1, a part outside the global batch, faults of the blend.
  DataLoader(std::vector<Component> components, LoaderConfig config, int prefetch = 2);
  DataLoader(std::shared_ptr<const Dataset> dataset, LoaderConfig config, int prefetch = 2);
  ~DataLoader();
  DataLoader(const DataLoader&) = delete;
  DataLoader& operator=(const DataLoader&) = delete;

  /// The next step's batch, into the memory of `batch` where it fits. Always true: epochs follow one another without
  /// end. Rethrows what failed in the thread.
  bool next(Batch& batch);

  /// As of the last next(), whatever has been prepared since.
  State state() const;
  /// Goes on where `state` stood, with the weights of the blend as they are here from there on. UserError naming every
  /// field that differs when it is of other data or settings.
  void restore(const State& state);

  /// What a component gave until now.
  struct Progress {
    std::string name;
    std::int64_t sequences;
    double epochs;
  };
  std::vector<Progress> progress() const;
  /// Steps that are so many epochs. UserError for more than one component.
  std::int64_t steps_in(double epochs) const;

 private:
  void open(std::vector<std::vector<Generation>> generations);
  void produce(std::int64_t sequence);
  void stop();

  std::vector<Component> components_;
  LoaderConfig config_;
  int prefetch_;
  std::vector<std::vector<Generation>> generations_;
  std::unique_ptr<Sequences> sequences_;  // the thread's, while there is one
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
  std::int64_t sequences() const { return sequences_.samplers()[0].sequences_per_epoch(0); }

 private:
  LoaderConfig config_;
  Sequences sequences_;
  std::int64_t next_sequence_ = 0;
};

}  // namespace dujiang::data
