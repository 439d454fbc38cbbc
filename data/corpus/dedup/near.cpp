#include "data/corpus/dedup/near.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <list>
#include <memory>
#include <optional>
#include <tuple>
#include <unordered_map>

#include "data/corpus/dedup/exact.h"
#include "data/corpus/dedup/minhash.h"
#include "data/corpus/dedup/shingles.h"
#include "data/corpus/dedup/shuffle.h"
#include "data/corpus/piece_file.h"
#include "framework/base/check.h"

namespace dujiang::data {
namespace {

constexpr std::string_view map_phase = "near_map", signature_phase = "near_signatures", pair_phase = "near_pairs";

struct Key {
  std::uint64_t key;
  DocumentId document;
  auto operator<=>(const Key&) const = default;
};
struct Pair {
  DocumentId a, b;
  bool operator==(const Pair&) const = default;
};

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
  SectionWriter signatures(work.file(signature_phase, piece), minhash.size(), 1);
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
  keys.write(work.file(map_phase, piece));
}

// Goes through the documents of one bucket after the other, in order, and says which pairs to look at. A document that
// looks like an earlier leader beyond doubt is paired with it alone; any other becomes a leader and is paired with the
// likeliest of those before it. The newest leaders are kept.
class Leaders {
 public:
  Leaders(const NearConfig& config, std::vector<Pair>& pairs)
      : k_(std::size_t{config.bands} * config.rows), pairs_(pairs), signatures_(most_leaders * k_) {
    // The estimate's standard deviation at the threshold, thrice: one in 700 is wrong by more.
    const double doubt = 3 * std::sqrt(config.threshold * (1 - config.threshold) / static_cast<double>(k_));
    likely_ = config.threshold - doubt;
    sure_ = std::min(1.0, config.threshold + doubt);
  }

  void add(const Key& entry, std::span<const std::uint8_t> signature) {
    if (count_ == 0 || entry.key != key_) {
      key_ = entry.key;
      count_ = 0;
    }
    likely_pairs_.clear();
    for (std::size_t i = 0; i < std::min(count_, most_leaders); ++i) {
      const double estimate = estimated_similarity(signature, {signatures_.data() + i * k_, k_});
      if (estimate >= sure_) {
        pairs_.push_back({documents_[i], entry.document});
        return;
      }
      if (estimate >= likely_) likely_pairs_.emplace_back(-estimate, documents_[i]);
    }
    std::sort(likely_pairs_.begin(), likely_pairs_.end());
    if (likely_pairs_.size() > most_pairs) likely_pairs_.resize(most_pairs);
    for (const auto& [estimate, leader] : likely_pairs_) pairs_.push_back({leader, entry.document});
    const std::size_t slot = count_++ % most_leaders;
    documents_[slot] = entry.document;
    std::copy(signature.begin(), signature.end(), signatures_.begin() + static_cast<std::ptrdiff_t>(slot * k_));
  }

 private:
  static constexpr std::size_t most_leaders = 32, most_pairs = 8;
  std::size_t k_;
  std::vector<Pair>& pairs_;
  double likely_, sure_;
  std::uint64_t key_ = 0;
  std::size_t count_ = 0;  // of leaders so far
  DocumentId documents_[most_leaders];
  std::vector<std::uint8_t> signatures_;
  std::vector<std::pair<double, DocumentId>> likely_pairs_;  // minus the estimate, leader
};

void sort_unique(std::vector<Pair>& pairs) {
  // By pieces first: then few texts are open at a time.
  const auto order = [](const Pair& p) { return std::tuple(piece_of(p.a), piece_of(p.b), p.a, p.b); };
  std::sort(pairs.begin(), pairs.end(), [&](const Pair& p, const Pair& q) { return order(p) < order(q); });
  pairs.erase(std::unique(pairs.begin(), pairs.end()), pairs.end());
}

void reduce_keys(const DedupWork& work, const NearConfig& config, std::uint64_t partition) {
  std::vector<Key> keys;
  for (std::uint64_t p = 0; p < work.pieces; ++p)
    SectionReader(work.file(map_phase, p), sizeof(Key)).append_section(partition, keys);
  std::sort(keys.begin(), keys.end());
  std::size_t kept = 0;
  for (std::size_t begin = 0, end = 0; begin < keys.size(); begin = end) {
    for (end = begin; end < keys.size() && keys[end].key == keys[begin].key;) ++end;
    if (end - begin == 1) continue;
    for (std::size_t i = begin; i < end; ++i) keys[kept++] = keys[i];
  }
  keys.resize(kept);

  const std::size_t k = std::size_t{config.bands} * config.rows;
  std::vector<Pair> pairs;
  Leaders leaders(config, pairs);
  // Signatures come in batches, each read in the order of the files.
  constexpr std::size_t batch = std::size_t{1} << 16;
  std::vector<std::uint8_t> signatures(std::min(batch, keys.size()) * k);
  std::vector<std::pair<DocumentId, std::size_t>> places;
  for (std::size_t begin = 0; begin < keys.size(); begin += batch) {
    const std::size_t count = std::min(batch, keys.size() - begin);
    places.clear();
    for (std::size_t i = 0; i < count; ++i) places.emplace_back(keys[begin + i].document, i);
    std::sort(places.begin(), places.end());
    std::optional<SectionReader> reader;
    std::uint64_t open = 0;
    for (const auto& [document, i] : places) {
      if (!reader || piece_of(document) != open)
        reader.emplace(work.file(signature_phase, open = piece_of(document)), k);
      reader->read_record(index_of(document), signatures.data() + i * k);
    }
    for (std::size_t i = 0; i < count; ++i) leaders.add(keys[begin + i], {signatures.data() + i * k, k});
  }
  sort_unique(pairs);
  Shuffle<Pair> shuffle(work.partitions);
  // A task verifies the pairs of documents that lie together.
  for (const auto& pair : pairs) shuffle.add(section_of(mixed(pair.a >> 10), work.partitions), pair);
  shuffle.write(work.file(pair_phase, partition));
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
  std::vector<Pair> pairs;
  for (std::uint64_t p = 0; p < work.partitions; ++p)
    SectionReader(work.file(pair_phase, p), sizeof(Pair)).append_section(partition, pairs);
  sort_unique(pairs);
  SetCache cache(work, config);
  Shuffle<Edge> edges(1);
  for (const auto& [a, b] : pairs) {
    const auto x = cache.get(a), y = cache.get(b);
    const double s = similarity(x->set, y->set);
    if (s >= config.threshold) edges.add(0, {a, b, x->hash, y->hash, static_cast<float>(s), 0});
  }
  edges.write(work.file(near_edges, partition));
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
  return {{map_phase, work.pieces, [work](std::uint64_t piece) { return work.file(map_phase, piece); },
           [=](std::uint64_t piece) { map_documents(work, config, after_exact, piece); }},
          {pair_phase, work.partitions, [work](std::uint64_t p) { return work.file(pair_phase, p); },
           [=](std::uint64_t p) { reduce_keys(work, config, p); }},
          {near_edges, work.partitions, [work](std::uint64_t p) { return work.file(near_edges, p); },
           [=](std::uint64_t p) { verify_pairs(work, config, p); }}};
}

}  // namespace dujiang::data
