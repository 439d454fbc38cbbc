#include "framework/base/shape.h"

#include <algorithm>

#include "framework/base/check.h"

namespace dujiang {

Shape::Shape(std::span<const std::int64_t> sizes) : rank_(static_cast<int>(sizes.size())) {
  DUJIANG_CHECK(rank_ <= max_rank, "shape of rank {}: at most {} axes are supported", sizes.size(), max_rank);
  std::copy(sizes.begin(), sizes.end(), sizes_.begin());
}

std::size_t Shape::index(int axis) const {
  const int positive = axis < 0 ? axis + rank_ : axis;
  DUJIANG_CHECK(positive >= 0 && positive < rank_, "axis {} of shape {}: out of range", axis, str());
  return static_cast<std::size_t>(positive);
}

std::int64_t Shape::count() const {
  std::int64_t n = 1;
  for (auto size : *this) n *= size;
  return n;
}

bool Shape::operator==(const Shape& other) const {
  return std::equal(begin(), end(), other.begin(), other.end());
}

std::string Shape::str() const {
  return fmt::format("[{}]", fmt::join(begin(), end(), ", "));
}

Shape Shape::contiguous_strides() const {
  Shape strides = *this;
  std::int64_t step = 1;
  for (int axis = rank_ - 1; axis >= 0; --axis) {
    strides[axis] = step;
    step *= (*this)[axis];
  }
  return strides;
}

}  // namespace dujiang
