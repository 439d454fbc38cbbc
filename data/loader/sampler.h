#pragma once
// Which tokens sequence k holds: a pure function of (dataset, sequence length, packing, seed, k).
//
// Every epoch lays the documents out in an order of its own, one after another, cuts that stream every
// `sequence_length` tokens, and visits the cuts in a second order of its own. So
//  - every token of the dataset is an input exactly once per epoch (the stream's last sequence is padded);
//  - documents meet other neighbours and other cuts in every epoch, and a long document's parts do not fill one batch;
//  - any k is reached without those before it, hence exact resume and any number of ranks.
// Both orders are Permutations. What is kept is one stream offset per 8 documents of the current epoch.

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "data/loader/batch.h"
#include "data/loader/permutation.h"
#include "data/shard/dataset.h"

namespace dujiang::data {

/// documents: attention and positions restart at every document, and none predicts the next one's first token.
/// none: a sequence is one run of text, across documents.
enum class Packing { documents, none };

std::string_view name_of(Packing packing);
/// UserError listing the known names.
Packing packing_of(std::string_view name);

class Sampler {
 public:
  /// Without a seed: documents and sequences in the order they are stored, the same in every epoch. UserError for a
  /// sequence length below 1.
  Sampler(std::shared_ptr<const Dataset> dataset, std::int64_t sequence_length, Packing packing,
          std::optional<std::uint64_t> seed);

  std::int64_t sequences_per_epoch() const { return sequences_; }

  /// Fills `batch` with `count` sequences of the endless run of epochs: first, first + stride, ...; those at or after
  /// `end` are all padding. Reuses the batch's memory. Not thread-safe: it keeps the epoch at hand.
  void fill(std::int64_t first, std::int64_t count, Batch& batch, std::int64_t stride = 1,
            std::int64_t end = std::numeric_limits<std::int64_t>::max());

 private:
  struct Epoch {
    std::int64_t number;
    std::optional<Permutation> documents, sequences;
    std::vector<std::int64_t> anchors;  // stream offset of every 8th document in the epoch's order
  };
  const Epoch& epoch(std::int64_t number);
  std::int64_t document_at(const Epoch& epoch, std::int64_t place) const;
  /// Tokens [start, start + count) of the epoch's stream into scratch_, and into starts_ the indices in it, above 0,
  /// where a document begins.
  void gather(const Epoch& epoch, std::int64_t start, std::int64_t count);
  void fill_row(std::int64_t row, std::int64_t k, Batch& batch);

  std::shared_ptr<const Dataset> dataset_;
  std::int64_t length_, sequences_;
  Packing packing_;
  std::optional<std::uint64_t> seed_;
  std::optional<Epoch> epoch_;
  std::vector<std::int32_t> scratch_;
  std::vector<std::int64_t> starts_;
};

}  // namespace dujiang::data
