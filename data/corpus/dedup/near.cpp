#include "data/corpus/dedup/near.h"

#include <xxhash.h>

#include <algorithm>
#include <list>
#include <memory>
#include <numeric>
#include <optional>
#include <tuple>
#include <unordered_map>

#include "data/corpus/dedup/exact.h"
#include "data/corpus/dedup/leaders.h"
#include "data/corpus/dedup/minhash.h"
#include "data/corpus/dedup/shingles.h"
#include "data/corpus/dedup/sorter.h"
#include "data/corpus/piece_file.h"
#include "framework/base/check.h"

namespace dujiang::data {
namespace {

constexpr std::string_view near_map = "near_map", near_signatures = "near_signatures", near_pairs = "near_pairs";

struct Key {
  std::uint64_t key;
  DocumentId document;
  auto operator<=>(const Key&) const = default;
};
// By the tasks that verify them, each of which has the pairs of documents that lie together.
struct TaskPair : Pair {
  std::uint64_t task_hash() const { return mixed(a >> 10); }
  bool operator<(const TaskPair& other) const {
    return std::tuple(task_hash(), a, b) < std::tuple(other.task_hash(), other.a, other.b);
  }
};
// By pieces first: then few texts are open at a time.
struct PiecePair : Pair {
  bool operator<(const PiecePair& other) const {
    return std::tuple(piece_of(a), piece_of(b), a, b) <
           std::tuple(piece_of(other.a), piece_of(other.b), other.a, other.b);
  }
};

// Each once.
template <class AnyPair, class Body>
void for_each_different(Sorter<AnyPair>& pairs, Body&& body) {
  std::optional<AnyPair> last;
  pairs.for_each([&](const AnyPair& pair) {
    if (last == pair) return;
    body(pair);
    last = pair;
  });
}

// Writes the signatures of all documents and the band keys of those that take part.
void map_documents(const DedupWork& work, const NearConfig& config, bool after_exact, std::uint64_t piece) {
  const PieceReader reader(work.texts(piece));
  std::vector<bool> left_out(reader.documents());
  if (after_exact) {
    for (const auto& repeat : read_repeats(work, piece))
      left_out[index_of(repeat.document)] = repeat.document != repeat.kept;
  }
  const MinHash minhash(std::size_t{config.bands} * config.rows);
  Shuffle<Key> keys(work.partitions);
  SectionWriter signatures(work.file(near_signatures, piece), minhash.size(), 1);
  std::vector<std::uint8_t> signature(minhash.size());
  for (std::uint32_t d = 0; d < reader.documents(); ++d) {
    auto minima = minhash.start();
    std::optional<std::uint64_t> only;
    bool several = false;
    if (!left_out[d]) {
      for_each_shingle(reader.text(d), {config.ngram, config.letters_only}, [&](std::span<const std::uint64_t> hashes) {
        if (!only) only = hashes[0];
        several |= std::any_of(hashes.begin(), hashes.end(), [&](auto h) { return h != *only; });
        minhash.lower(minima, hashes);
      });
    }
    std::transform(minima.begin(), minima.begin() + static_cast<std::ptrdiff_t>(signature.size()), signature.begin(),
                   [](std::uint32_t least) { return static_cast<std::uint8_t>(least); });
    signatures.append(0, signature.data(), 1);
    // A set of one shingle meets no larger set above a threshold of 0.5, and its equals in every band.
    const std::uint32_t bands = !only ? 0 : several ? config.bands : 1;
    for (std::uint32_t band = 0; band < bands; ++band) {
      const auto key = XXH3_64bits_withSeed(minima.data() + band * config.rows, 4 * std::size_t{config.rows}, band);
      keys.add(section_of(key, work.partitions), {key, document_id(piece, d)});
    }
  }
  signatures.commit();
  keys.write(work.file(near_map, piece));
}

// Keys come sorted, those with company, to be looked at in batches of signatures that are read in the order of files.
class Buckets {
 public:
  Buckets(const DedupWork& work, const NearConfig& config, Sorter<TaskPair>& pairs)
      : work_(work),
        k_(std::size_t{config.bands} * config.rows),
        batch_(std::max<std::size_t>(work.sort_bytes / k_, 1)),
        leaders_(k_, config.threshold),
        pairs_(pairs) {}

  void add(const Key& key) {
    keys_.push_back(key);
    if (keys_.size() == batch_) flush();
  }

  void flush() {
    std::vector<std::size_t> places(keys_.size());
    std::iota(places.begin(), places.end(), std::size_t{0});
    std::sort(places.begin(), places.end(),
              [&](std::size_t i, std::size_t j) { return keys_[i].document < keys_[j].document; });
    signatures_.resize(keys_.size() * k_);
    std::optional<SectionReader> reader;
    std::uint64_t open = 0;
    for (const auto i : places) {
      const auto document = keys_[i].document;
      if (!reader || piece_of(document) != open)
        reader.emplace(work_.file(near_signatures, open = piece_of(document)), k_);
      reader->read_record(index_of(document), signatures_.data() + i * k_);
    }
    for (std::size_t i = 0; i < keys_.size(); ++i) {
      found_.clear();
      leaders_.add(keys_[i].key, keys_[i].document, {signatures_.data() + i * k_, k_}, found_);
      for (const auto& pair : found_) pairs_.add({pair});
    }
    keys_.clear();
  }

 private:
  const DedupWork& work_;
  std::size_t k_, batch_;
  Leaders leaders_;
  Sorter<TaskPair>& pairs_;
  std::vector<Key> keys_;
  std::vector<std::uint8_t> signatures_;
  std::vector<Pair> found_;
};

void reduce_keys(const DedupWork& work, const NearConfig& config, std::uint64_t partition) {
  const auto scratch = work.scratch(near_pairs, partition);
  Sorter<Key> keys(scratch, work.sort_bytes);
  for (std::uint64_t p = 0; p < work.pieces; ++p)
    keys.add_section(SectionReader(work.file(near_map, p), sizeof(Key)), partition);
  Sorter<TaskPair> pairs(scratch, work.sort_bytes);
  Buckets buckets(work, config, pairs);
  std::optional<Key> last;
  bool alone = true;
  keys.for_each([&](const Key& key) {
    const bool same = last && key.key == last->key;
    if (same && alone) buckets.add(*last);
    if (same) buckets.add(key);
    alone = !same;
    last = key;
  });
  buckets.flush();
  SectionWriter writer(work.file(near_pairs, partition), sizeof(Pair), work.partitions);
  for_each_different(
      pairs, [&](const TaskPair& pair) { writer.append(section_of(pair.task_hash(), work.partitions), &pair, 1); });
  writer.commit();
}

// The shingle sets of the documents that were asked for lately.
class SetCache {
 public:
  struct Entry {
    ShingleSet set;
    std::uint64_t hash;
  };
  SetCache(const DedupWork& work, const NearConfig& config) : work_(work), config_(config) {}

  std::shared_ptr<const Entry> get(DocumentId document) {
    auto& entry = entries_[document];
    if (entry) return entry;
    const auto text = reader(piece_of(document)).text(index_of(document));
    entry = std::make_shared<Entry>(Entry{{text, {config_.ngram, config_.letters_only}}, text_hash(text)});
    const auto result = entry;
    bytes_ += result->set.size() * sizeof(std::uint64_t) + 128;
    if (bytes_ > config_.cache_mib << 20) {
      entries_.clear();
      bytes_ = 0;
    }
    return result;
  }

 private:
  // Two pieces at a time, for pairs sorted by their pieces.
  const PieceReader& reader(std::uint64_t piece) {
    for (const auto& [open, reader] : readers_) {
      if (open == piece) return reader;
    }
    if (readers_.size() == 2) readers_.erase(readers_.begin());
    readers_.emplace_back(piece, PieceReader(work_.texts(piece)));
    return readers_.back().second;
  }

  const DedupWork& work_;
  const NearConfig& config_;
  std::unordered_map<DocumentId, std::shared_ptr<const Entry>> entries_;
  std::size_t bytes_ = 0;
  std::list<std::pair<std::uint64_t, PieceReader>> readers_;
};

void verify_pairs(const DedupWork& work, const NearConfig& config, std::uint64_t partition) {
  Sorter<PiecePair> pairs(work.scratch(near_edges, partition), work.sort_bytes);
  for (std::uint64_t p = 0; p < work.partitions; ++p)
    pairs.add_section(SectionReader(work.file(near_pairs, p), sizeof(Pair)), partition);
  SetCache cache(work, config);
  SectionWriter edges(work.file(near_edges, partition), sizeof(Edge), 1);
  for_each_different(pairs, [&](const Pair& pair) {
    const auto x = cache.get(pair.a), y = cache.get(pair.b);
    const double s = similarity(x->set, y->set);
    const Edge edge{pair.a, pair.b, x->hash, y->hash, static_cast<float>(s), 0};
    if (s >= config.threshold) edges.append(0, &edge, 1);
  });
  edges.commit();
}

}  // namespace

void check(const NearConfig& config) {
  const auto within = [](const char* field, double value, double least, double most) {
    if (!(value >= least && value <= most))
      fail_user("near duplicates: {}: {} is not from {} to {}", field, value, least, most);
  };
  within("ngram", config.ngram, 1, 64);
  within("bands", config.bands, 1, 256);
  within("rows", config.rows, 1, 64);
  within("threshold", config.threshold, 0.51, 1);
}

std::vector<Phase> near_phases(const DedupWork& work, const NearConfig& config, bool after_exact) {
  check(config);
  return {{near_map, work.pieces, [work](std::uint64_t piece) { return work.file(near_map, piece); },
           [=](std::uint64_t piece) { map_documents(work, config, after_exact, piece); }},
          {near_pairs, work.partitions, [work](std::uint64_t p) { return work.file(near_pairs, p); },
           [=](std::uint64_t p) { reduce_keys(work, config, p); }},
          {near_edges, work.partitions, [work](std::uint64_t p) { return work.file(near_edges, p); },
           [=](std::uint64_t p) { verify_pairs(work, config, p); }}};
}

}  // namespace dujiang::data
