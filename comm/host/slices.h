#pragma once
// How one large operation is cut: slice r of the vector is rank r's to reduce, and the slices advance together in
// rounds of at most `chunk` elements, so that scratch memory and message sizes are bounded.

#include <algorithm>
#include <cstdint>

namespace dujiang::comm {

struct Slices {
  std::int64_t total;  ///< elements of the vector
  std::int64_t slice;  ///< elements per rank; the last ranks may have fewer
  std::int64_t chunk;  ///< elements per rank and round

  /// Equal slices of `slice` elements for each of `ranks`.
  static Slices equal(std::int64_t slice, int ranks, std::int64_t chunk) { return {slice * ranks, slice, chunk}; }
  /// As equal as `total` allows.
  static Slices of(std::int64_t total, int ranks, std::int64_t chunk) {
    return {total, (total + ranks - 1) / ranks, chunk};
  }

  std::int64_t rounds() const { return (slice + chunk - 1) / chunk; }
  std::int64_t offset(int rank, std::int64_t round) const { return rank * slice + round * chunk; }
  std::int64_t length(int rank, std::int64_t round) const {
    const std::int64_t end = std::min({total, (rank + 1) * slice, offset(rank, round) + chunk});
    return std::max<std::int64_t>(end - offset(rank, round), 0);
  }
};

}  // namespace dujiang::comm
