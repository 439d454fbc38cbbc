#pragma once
// Sizes along axes: a small vector without allocation, used for shapes and strides (in elements).

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

namespace dujiang {

class Shape {
 public:
  static constexpr int max_rank = 6;

  Shape() = default;
  Shape(std::initializer_list<std::int64_t> sizes) : Shape(std::span(sizes.begin(), sizes.size())) {}
  /// Throws when there are more than max_rank sizes.
  explicit Shape(std::span<const std::int64_t> sizes);

  int rank() const { return rank_; }
  /// Negative axes count from the end; throws outside the rank.
  std::int64_t operator[](int axis) const { return sizes_[index(axis)]; }
  std::int64_t& operator[](int axis) { return sizes_[index(axis)]; }
  /// The number of elements: the product of the sizes; 1 for rank 0.
  std::int64_t count() const;
  std::span<const std::int64_t> sizes() const { return {sizes_.data(), static_cast<std::size_t>(rank_)}; }
  const std::int64_t* begin() const { return sizes_.data(); }
  const std::int64_t* end() const { return sizes_.data() + rank_; }
  bool operator==(const Shape& other) const;
  /// "[2, 3]"
  std::string str() const;

  /// The strides of a contiguous array of this shape.
  Shape contiguous_strides() const;

 private:
  std::size_t index(int axis) const;
  std::array<std::int64_t, max_rank> sizes_{};
  int rank_ = 0;
};

}  // namespace dujiang
