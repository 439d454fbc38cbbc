#pragma once
// Views with memory of their own, random contents, odd layouts, and element by element comparison: what tests of ops
// are written with.

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "framework/base/philox.h"
#include "framework/base/view.h"
#include "ops/reference/access.h"
#include "tests/support/bounds.h"

namespace dujiang::test {

/// Memory layouts of one shape.
enum class Layout {
  contiguous,
  padded,      ///< rows further apart than their length; unit stride on the last axis; the base is not aligned
  transposed,  ///< the last two axes swapped in memory (rank 1: every second element)
};
inline constexpr Layout layouts[] = {Layout::contiguous, Layout::padded, Layout::transposed};
inline constexpr Dtype compute_dtypes[] = {Dtype::f32, Dtype::bf16, Dtype::f16};

/// A view and its memory, in exactly sized allocations so that AddressSanitizer sees reads past the end. Copies share
/// the memory.
struct Array {
  View view;
  std::shared_ptr<std::vector<char>> memory;
  operator const View&() const { return view; }
};

/// All bytes 0xff: NaN in every floating dtype, so that an element nobody wrote shows. The first element lies `offset`
/// elements from the start of the memory.
inline Array empty(Dtype dtype, Shape shape, Shape strides, std::int64_t offset) {
  std::int64_t last = offset;
  for (int axis = 0; axis < shape.rank(); ++axis) last += std::max<std::int64_t>(shape[axis] - 1, 0) * strides[axis];
  const std::size_t elements = shape.count() == 0 ? 0 : static_cast<std::size_t>(last + 1);
  Array array;
  array.memory = std::make_shared<std::vector<char>>(elements * size_of(dtype), static_cast<char>(0xff));
  array.view = View(array.memory->data(), dtype, shape, strides);
  if (elements > 0) array.view.data = array.memory->data() + offset * static_cast<std::int64_t>(size_of(dtype));
  return array;
}
inline Array empty(Dtype dtype, Shape shape, Layout layout = Layout::contiguous) {
  Shape strides = shape.contiguous_strides();
  if (layout == Layout::padded) {
    std::int64_t step = 1;
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
      strides[axis] = step;
      step *= shape[axis] + 3;
    }
  } else if (layout == Layout::transposed && shape.rank() == 1) {
    strides[0] = 2;
  } else if (layout == Layout::transposed && shape.rank() > 1) {
    strides[-1] = shape[-2];
    strides[-2] = 1;
  }
  return empty(dtype, shape, strides, layout == Layout::padded ? 1 : 0);
}

/// Calls visit(offset) for every element in row-major order, offset in elements from view.data.
template <class Visit>
void for_each_offset(const View& view, Visit&& visit) {
  const int rank = view.shape.rank();
  const std::int64_t length = rank > 0 ? view.shape[-1] : 1, step = rank > 0 ? view.strides[-1] : 0;
  const std::int64_t rows = length > 0 ? view.count() / length : 0;
  for (std::int64_t row = 0; row < rows; ++row) {
    std::int64_t rest = row, offset = 0;
    for (int axis = rank - 2; axis >= 0; --axis) {
      offset += rest % view.shape[axis] * view.strides[axis];
      rest /= view.shape[axis];
    }
    for (std::int64_t i = 0; i < length; ++i) visit(offset + i * step);
  }
}

inline double element(const View& view, std::int64_t offset) {
  return ops::reference::load(view, offset);
}
inline void set_element(const View& view, std::int64_t offset, double value) {
  ops::reference::store(view, offset, value);
}

/// All elements in row-major order.
inline std::vector<double> values(const View& view) {
  std::vector<double> v;
  v.reserve(static_cast<std::size_t>(view.count()));
  for_each_offset(view, [&](std::int64_t offset) { v.push_back(element(view, offset)); });
  return v;
}
inline void assign(const View& view, const std::vector<double>& from) {
  std::size_t i = 0;
  for_each_offset(view, [&](std::int64_t offset) { set_element(view, offset, from.at(i++)); });
}

/// Standard normal times `deviation`; the i-th element depends on seed and i alone, not on the layout.
inline Array randomized(Array array, std::uint64_t seed, double deviation = 1) {
  const Philox philox(seed, 0);
  std::uint64_t i = 0;
  for_each_offset(array.view,
                  [&](std::int64_t offset) { set_element(array.view, offset, deviation * philox.normal(i++)); });
  return array;
}
inline Array random(Dtype dtype, Shape shape, std::uint64_t seed, Layout layout = Layout::contiguous,
                    double deviation = 1) {
  return randomized(empty(dtype, shape, layout), seed, deviation);
}
/// i32, uniform in [low, high).
inline Array random_integers(Shape shape, std::uint64_t seed, std::int64_t low, std::int64_t high,
                             Layout layout = Layout::contiguous) {
  Array array = empty(Dtype::i32, shape, layout);
  const Philox philox(seed, 1);
  std::uint64_t i = 0;
  for_each_offset(array.view, [&](std::int64_t offset) {
    const auto value = low + static_cast<std::int64_t>(philox.below(i++, static_cast<std::uint64_t>(high - low)));
    set_element(array.view, offset, static_cast<double>(value));
  });
  return array;
}
inline Array constant(Dtype dtype, Shape shape, double value, Layout layout = Layout::contiguous) {
  Array array = empty(dtype, shape, layout);
  for_each_offset(array.view, [&](std::int64_t offset) { set_element(array.view, offset, value); });
  return array;
}
/// The same values, in another dtype or layout.
inline Array clone(const View& from, Dtype dtype, Layout layout = Layout::contiguous) {
  Array array = empty(dtype, from.shape, layout);
  assign(array.view, values(from));
  return array;
}
inline Array clone(const View& from) {
  return clone(from, from.dtype);
}

/// The magnitudes, in f64.
inline Array absolute(const View& from) {
  Array array = clone(from, Dtype::f64);
  auto v = values(from);
  for (double& x : v) x = std::abs(x);
  assign(array, v);
  return array;
}

/// One failed check, naming the worst element, unless all lie within the bound. NaN and infinity match only their like.
inline void check_close(const View& actual, const View& expected, const Bound& bound, const std::string& what) {
  BOOST_TEST_REQUIRE((actual.shape == expected.shape), what << ": shapes differ");
  const auto a = values(actual), e = values(expected);
  double worst = -1;
  std::size_t where = 0, wrong = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double allowed = bound.absolute + bound.relative * std::abs(e[i]) + (bound.own ? bound.own(i) : 0);
    const bool same = a[i] == e[i] || (std::isnan(a[i]) && std::isnan(e[i]));
    if (same || std::abs(a[i] - e[i]) <= allowed) continue;
    ++wrong;
    const double excess = std::isfinite(a[i]) && std::isfinite(e[i]) ? std::abs(a[i] - e[i]) / (allowed + 1e-300)
                                                                     : std::numeric_limits<double>::infinity();
    if (excess > worst) {
      worst = excess;
      where = i;
    }
  }
  BOOST_TEST(wrong == 0u);
  if (wrong > 0)
    BOOST_ERROR(what << ": " << wrong << " of " << a.size() << " elements outside the bound; element " << where
                     << " is " << a[where] << ", expected " << e[where] << ", off by " << worst << " times the bound; "
                     << actual.str());
}

/// Whether the memory between the elements of an array from empty() is as it was.
inline bool gaps_are_untouched(const Array& array) {
  std::vector<char> bytes = *array.memory;
  const auto size = static_cast<std::int64_t>(size_of(array.view.dtype));
  const std::int64_t start = static_cast<const char*>(array.view.data) - array.memory->data();
  for_each_offset(array.view, [&](std::int64_t offset) {
    std::fill_n(bytes.begin() + start + offset * size, size, static_cast<char>(0xff));
  });
  return std::all_of(bytes.begin(), bytes.end(), [](char byte) { return byte == static_cast<char>(0xff); });
}

/// The same bits in every element.
inline bool same_bits(const View& a, const View& b) {
  if (!(a.shape == b.shape) || a.dtype != b.dtype) return false;
  std::vector<std::int64_t> left, right;
  for_each_offset(a, [&](std::int64_t offset) { left.push_back(offset); });
  for_each_offset(b, [&](std::int64_t offset) { right.push_back(offset); });
  const auto size = static_cast<std::int64_t>(size_of(a.dtype));
  for (std::size_t i = 0; i < left.size(); ++i)
    if (std::memcmp(static_cast<const char*>(a.data) + left[i] * size,
                    static_cast<const char*>(b.data) + right[i] * size, static_cast<std::size_t>(size)) != 0)
      return false;
  return true;
}

}  // namespace dujiang::test
