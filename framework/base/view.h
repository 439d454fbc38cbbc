#pragma once
// View: typed, strided memory that somebody else owns. What ops work on.

#include <string>

#include "framework/base/check.h"
#include "framework/base/device.h"
#include "framework/base/dtype.h"
#include "framework/base/shape.h"

namespace dujiang {

struct View {
  void* data = nullptr;  ///< null: an absent optional argument, or a view of no elements
  Dtype dtype = Dtype::f32;
  Shape shape;
  Shape strides;  ///< in elements, one per axis
  Device device;

  View() = default;
  /// A contiguous view.
  View(void* data, Dtype dtype, Shape shape, Device device = {})
      : data(data), dtype(dtype), shape(shape), strides(shape.contiguous_strides()), device(device) {}
  View(void* data, Dtype dtype, Shape shape, Shape strides, Device device = {})
      : data(data), dtype(dtype), shape(shape), strides(strides), device(device) {}

  bool defined() const { return data != nullptr; }
  std::int64_t count() const { return shape.count(); }
  std::size_t bytes() const { return static_cast<std::size_t>(count()) * size_of(dtype); }
  /// True when elements lie in row-major order without gaps.
  bool contiguous() const;
  View transposed(int axis_a, int axis_b) const;
  /// `length` elements of `axis` from `start`.
  View narrowed(int axis, std::int64_t start, std::int64_t length) const;
  /// The same elements under another shape; throws unless contiguous and of equal count.
  View reshaped(Shape to) const;

  /// The pointer, after checking the dtype.
  template <class T>
  T* as() const {
    DUJIANG_CHECK(dtype == dtype_of<T>, "view of dtype {} read as {}", name_of(dtype), name_of(dtype_of<T>));
    return static_cast<T*>(data);
  }
  /// "bf16[2, 3]" (and its strides where it is not contiguous): for messages.
  std::string str() const;
};

}  // namespace dujiang
