#pragma once
// The endless run of sequences that training sees: those of one set of documents, or of several blended by weight.

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/loader/batch.h"
#include "data/loader/blend.h"
#include "data/loader/sampler.h"
#include "data/shard/dataset.h"

namespace dujiang::data {

/// A set of documents with an order and epochs of its own.
struct Component {
  std::shared_ptr<const Dataset> dataset;
  std::string source;  ///< of the dataset, by name; empty: all of it
  /// "FOLDER" or "FOLDER: SOURCE"
  std::string name() const;
};

/// The generations of a component that is new.
std::vector<Generation> first_generation(const Component& component);

class Sequences {
 public:
  /// With no phases, one component is asked for. `generations`: of each component. UserError for faults of the blend,
  /// and when some components have labels and others don't.
  Sequences(std::vector<Component> components, std::vector<BlendPhase> phases,
            std::vector<std::vector<Generation>> generations, std::int64_t sequence_length, Packing packing,
            std::optional<std::uint64_t> seed);

  /// Fills `batch` with `count` sequences: first, first + stride, ...; those at or after `end` are all padding. Reuses
  /// the batch's memory. Not thread-safe, as all that follows.
  void fill(std::int64_t first, std::int64_t count, Batch& batch, std::int64_t stride = 1,
            std::int64_t end = std::numeric_limits<std::int64_t>::max());

  std::int64_t sequence_length() const { return length_; }
  const Blend& blend() const { return blend_; }
  const std::vector<Component>& components() const { return components_; }
  std::vector<Sampler>& samplers() { return samplers_; }
  const std::vector<Sampler>& samplers() const { return samplers_; }

 private:
  std::vector<Component> components_;
  Blend blend_;
  std::int64_t length_;
  std::vector<Sampler> samplers_;
};

}  // namespace dujiang::data
