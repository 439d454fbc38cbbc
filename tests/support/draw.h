#pragma once
// Random cases for tests: sizes around the edges of tiles, and views with gaps, permuted axes and unaligned starts.
// All that is drawn is a function of one seed, which the test names when it fails.

#include <algorithm>
#include <array>
#include <bit>
#include <initializer_list>
#include <utility>

#include "tests/support/views.h"

namespace dujiang::test {

class Draw {
 public:
  explicit Draw(std::uint64_t seed) : philox_(seed, 2) {}

  /// Uniform in [0, bound).
  std::int64_t below(std::int64_t bound) {
    return static_cast<std::int64_t>(philox_.below(next_++, static_cast<std::uint64_t>(bound)));
  }
  /// True once in n times.
  bool once_in(std::int64_t n) { return below(n) == 0; }
  template <class T>
  T of(std::initializer_list<T> choices) {
    return choices.begin()[below(static_cast<std::int64_t>(choices.size()))];
  }
  std::uint64_t seed() { return philox_.bits(next_++); }

  /// 1 to `most`, each power of two as often as the next; half of them at, just before or just after a multiple of 8 to
  /// 64, where blocks of kernels end.
  std::int64_t size(std::int64_t most) {
    const std::int64_t power = std::int64_t{1} << below(std::bit_width(static_cast<std::uint64_t>(most)) + 1);
    std::int64_t size = power / 2 + below(power) + 1;
    if (once_in(2)) {
      const std::int64_t edge = of({8, 16, 32, 48, 64});
      size = (size + edge - 1) / edge * edge + below(3) - 1;
    }
    return std::clamp<std::int64_t>(size, 1, most);
  }

  /// An array whose elements are NaN, for inputs to be filled and outputs to be written: the axes in any order in
  /// memory, gaps after each, and an unaligned start. `unit_last` keeps the last axis innermost; otherwise one of the
  /// last two is, but for one time in eight, when none has a unit stride.
  Array strided(Dtype dtype, Shape shape, bool unit_last) {
    const int rank = shape.rank();
    std::vector<int> order;  // outermost first
    for (int axis = 0; axis < rank; ++axis) order.push_back(axis);
    if (!unit_last && rank > 1 && once_in(2)) std::swap(order[order.size() - 1], order[order.size() - 2]);
    if (once_in(2))
      for (std::size_t i = order.size() - 1; i > 1; --i)
        std::swap(order[i - 1], order[static_cast<std::size_t>(below(static_cast<std::int64_t>(i)))]);
    std::int64_t step = !unit_last && once_in(8) ? 2 : 1;
    for (; !order.empty(); order.pop_back()) {
      const int axis = order.back();
      strides_[axis] = step;
      step *= shape[axis] + of({0, 0, 0, 1, 3, 8, 16});
    }
    Shape strides = shape;
    for (int axis = 0; axis < rank; ++axis) strides[axis] = strides_[axis];
    return empty(dtype, shape, strides, of({0, 0, 1, 2, 7, 16}));
  }

 private:
  Philox philox_;
  std::uint64_t next_ = 0;
  std::int64_t strides_[Shape::max_rank] = {};
};

/// Cases chosen by hand and `count` drawn ones, each size up to its own largest. A failure names the shapes, which with
/// the seeds in the test's text is all there is to know.
template <std::size_t axes>
std::vector<std::array<std::int64_t, axes>> and_drawn(std::vector<std::array<std::int64_t, axes>> sizes,
                                                      std::uint64_t seed, int count,
                                                      std::array<std::int64_t, axes> most) {
  Draw draw(seed);
  for (int i = 0; i < count; ++i)
    for (auto& size = sizes.emplace_back(most); auto& extent : size) extent = draw.size(extent);
  return sizes;
}

}  // namespace dujiang::test
