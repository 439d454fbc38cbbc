#pragma once
// Which tokens sequence j of a set of documents holds: a pure function of (documents, sequence length, packing, seed,
// j).
//
// Every epoch lays the documents out in an order of its own, one after another, cuts that stream every
// `sequence_length` tokens, and visits the cuts in a second order of its own. So
//  - every token is an input exactly once per epoch (the stream's last sequence is padded);
//  - documents meet other neighbours and other cuts in every epoch, and a long document's parts do not fill one batch;
//  - any j is reached without those before it, hence exact resume and any number of ranks.
// Both orders are Permutations. What is kept is one stream offset per 4 documents of the current epoch.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/loader/batch.h"
#include "data/loader/document_set.h"
#include "data/loader/permutation.h"

namespace dujiang::data {

/// documents: attention and positions restart at every document, and none predicts the next one's first token.
/// none: a sequence is one run of text, across documents.
enum class Packing { documents, none };

std::string_view name_of(Packing packing);
/// UserError listing the known names.
Packing packing_of(std::string_view name);

/// From sequence `sequence` on, the beginning of epoch `epoch`, a dataset is its first `shards` shards. A dataset that
/// grows begins a generation with an epoch, so that what was seen stays what it was.
struct Generation {
  std::int64_t sequence = 0, epoch = 0;
  std::int64_t shards = 0;
  std::string fingerprint;  ///< Dataset::fingerprint(shards)
  bool operator==(const Generation&) const = default;
};

class Sampler {
 public:
  struct Options {
    std::int64_t sequence_length = 0;
    Packing packing = Packing::documents;
    /// Without: documents and sequences in the order they are stored, the same in every epoch.
    std::optional<std::uint64_t> seed;
    std::uint64_t stream = 0;  ///< another order for each, with the same seed
  };
  /// UserError for a sequence length below 1. `generations`: one at least, the first from sequence 0 and epoch 0.
  Sampler(std::shared_ptr<const Dataset> dataset, const std::string& source, std::vector<Generation> generations,
          Options options);

  /// Of the epoch that begins at sequence j, or holds it.
  std::int64_t sequences_per_epoch(std::int64_t j) const { return generation_at(j).sequences; }
  /// How many epochs sequences [0, j) make.
  double epochs(std::int64_t j) const;
  /// The sequence that follows `epochs` of them.
  std::int64_t sequences_in(double epochs) const;

  /// Where a sequence's tokens lie.
  struct Row {
    struct Part {  // tokens [from, from + count) of a shard, at `at` in the row
      const ShardReader* shard;
      std::int64_t from, at, count;
    };
    std::vector<Part> parts;
    std::int64_t used = 0;  // tokens; the parts may end with one more, that is only predicted
  };
  /// Finds sequence j and asks memory for it: fill_row() need not wait when something else is done in between. Not
  /// thread-safe: it keeps the epoch at hand.
  void find(std::int64_t j, Row& found);
  /// Fills row `row` of `batch`, whose memory is there. Not thread-safe.
  void fill_row(const Row& found, std::int64_t row, Batch& batch);

  /// Tokens [first, first + count) of a document, which stand at `at` in the sequence.
  struct Span {
    std::int64_t document;  ///< in the dataset
    std::int64_t first, count, at;
  };
  std::vector<Span> spans(std::int64_t j);
  /// The sequences in [from, to) that hold tokens of some of these documents of the dataset, in order.
  struct Sighting {
    std::int64_t sequence, document;
    auto operator<=>(const Sighting&) const = default;
  };
  std::vector<Sighting> sightings(std::span<const std::int64_t> documents, std::int64_t from, std::int64_t to);

 private:
  struct Documents {  // of a generation
    Generation generation;
    DocumentSet set;
    std::int64_t sequences;  // per epoch
  };
  struct Epoch {
    std::int64_t number;
    const Documents* of;
    std::optional<Permutation> documents, sequences;
    std::vector<std::int64_t> anchors;  // stream offset of every 4th document in the epoch's order
  };
  const Documents& generation_at(std::int64_t j) const;
  std::int64_t epoch_number(std::int64_t j) const;
  const Epoch& epoch_at(std::int64_t j);
  static std::int64_t document_at(const Epoch& epoch, std::int64_t place);
  /// Where sequence j lies in its epoch's stream.
  std::int64_t start_of(const Epoch& epoch, std::int64_t j) const;
  /// visit(document of the set, its place, tokens to skip, at, count) for what covers [start, start + count) of the
  /// epoch's stream.
  template <class Visit>
  void walk(const Epoch& epoch, std::int64_t start, std::int64_t count, Visit&& visit) const;

  std::vector<Documents> generations_;
  std::int64_t length_;
  Packing packing_;
  std::optional<std::uint64_t> seed_;
  std::uint64_t stream_;
  bool weighted_, labelled_;
  std::optional<Epoch> epoch_;
  std::vector<std::int64_t> starts_;  // where documents begin in a row
};

}  // namespace dujiang::data
