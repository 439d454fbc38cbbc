#pragma once
// The one pool of compute threads. It is OpenMP's, which oneDNN uses too, so that nothing oversubscribes.

#include <omp.h>

#include <algorithm>
#include <cstdint>

#include "framework/base/rehearsal.h"

namespace dujiang {

/// The number of compute threads of the calling thread's parallel regions.
inline int thread_count() {
  return omp_get_max_threads();
}
inline void set_thread_count(int n) {
  omp_set_num_threads(n);
}

/// Runs body(begin, end) on disjoint ranges that cover [0, n), one contiguous range per thread, none smaller than
/// `grain` but the last. The partition depends on n, grain and thread_count() alone. The body must not throw.
/// A rehearsal leaves it out.
template <class Body>
void parallel_ranges(std::int64_t n, std::int64_t grain, Body&& body) {
  if (n <= 0 || Rehearsal::loops() != Rehearsal::Loops::all) return;
  const std::int64_t parts = std::clamp<std::int64_t>(n / std::max<std::int64_t>(grain, 1), 1, thread_count());
  if (parts == 1 || omp_in_parallel() || Rehearsal::current() != nullptr) {
    body(std::int64_t{0}, n);
    return;
  }
// All threads, also where there are fewer parts: libgomp ends those that a smaller team leaves out.
#pragma omp parallel for schedule(static, 1)
  for (std::int64_t p = 0; p < parts; ++p) body(n * p / parts, n * (p + 1) / parts);
}

/// Runs body(i) for i in [0, n), handed out one by one: for few, uneven tasks. The order is not fixed, so tasks must
/// be independent. The body must not throw. A rehearsal runs them one by one, or, inside of an op, leaves
/// them out.
template <class Body>
void parallel_tasks(std::int64_t n, Body&& body) {
  if (Rehearsal::loops() == Rehearsal::Loops::none) return;
  if (n == 1 || thread_count() == 1 || omp_in_parallel() || Rehearsal::current() != nullptr) {
    for (std::int64_t i = 0; i < n; ++i) body(i);
    return;
  }
#pragma omp parallel for schedule(dynamic, 1)
  for (std::int64_t i = 0; i < n; ++i) body(i);
}

}  // namespace dujiang
