#pragma once
// Documents whose sets of character n-grams are alike: candidates by MinHash and banding, verified by the true Jaccard
// similarity of the sets.

#include <cstdint>
#include <string_view>
#include <vector>

#include "data/corpus/dedup/work.h"

namespace dujiang::data {

struct NearConfig {
  std::uint32_t ngram = 5;  // characters; a text with fewer is one shingle as a whole
  std::uint32_t bands = 16;
  std::uint32_t rows = 7;      // of a band: two texts of similarity s meet with probability 1 - (1 - s^rows)^bands
  double threshold = 0.8;      // at least this similar, above 0.5 and at most 1
  bool letters_only = true;    // white space, punctuation and symbols are skipped
  std::size_t cache_mib = 64;  // of shingle sets, a task
};

/// Two documents that are alike.
struct Edge {
  DocumentId a, b;               // a < b
  std::uint64_t hash_a, hash_b;  // text_hash()
  float similarity;
  std::uint32_t unused;
};

/// The phase whose files, one a partition, hold the edges in one section.
inline constexpr std::string_view near_edges = "near_edges";

/// UserError naming the field that is out of bounds.
void check(const NearConfig& config);

/// Map over the pieces (band keys and signatures), reduce over the partitions (keys to candidate pairs), verify over
/// the partitions (pairs to edges). after_exact: exact_phases() ran before, and the repeats that they found are left
/// out.
///
/// Of a bucket of m documents, all pairs that their signatures (one byte a hash) make likely are candidates while m is
/// small; in large ones each document is compared with a bounded number of leaders, documents that no earlier one
/// stands for, so that the work is linear in m and alike documents still hang together: not every pair that is similar
/// enough becomes an edge, but its two are linked by edges.
std::vector<Phase> near_phases(const DedupWork& work, const NearConfig& config, bool after_exact);

}  // namespace dujiang::data
