#pragma once
// Two documents that are the same, or nearly.

#include <cstdint>

#include "data/corpus/dedup/work.h"

namespace dujiang::data {

enum class Twin : std::uint32_t { none, exact, near };

struct Edge {
  DocumentId a, b;               // a < b
  std::uint64_t hash_a, hash_b;  // of the texts: text_hash()
  float similarity;              // of the shingle sets; 1 when exact
  Twin twin;
};

/// The phases whose files, one a partition, hold edges.
inline constexpr std::string_view exact_edges = "exact_edges", near_edges = "near_edges";

}  // namespace dujiang::data
