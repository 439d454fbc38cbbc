#pragma once
// Element access for the reference loops: any dtype, any strides, arithmetic in double.

#include <cstdint>

#include "framework/base/view.h"

namespace dujiang::ops::reference {

inline std::int64_t offset_of(const View& view, std::initializer_list<std::int64_t> index) {
  std::int64_t offset = 0;
  int axis = 0;
  for (auto i : index) offset += i * view.strides[axis++];
  return offset;
}
inline double load(const View& view, std::int64_t offset) {
  switch (view.dtype) {
    case Dtype::f32:
      return view.as<float>()[offset];
    case Dtype::bf16:
      return view.as<bf16>()[offset];
    case Dtype::f16:
      return view.as<f16>()[offset];
    case Dtype::f64:
      return view.as<double>()[offset];
    case Dtype::i32:
      return view.as<std::int32_t>()[offset];
    case Dtype::i64:
      return static_cast<double>(view.as<std::int64_t>()[offset]);
    default:
      fail("the reference loops read no {}", name_of(view.dtype));
  }
}
inline void store(const View& view, std::int64_t offset, double value) {
  switch (view.dtype) {
    case Dtype::f32:
      view.as<float>()[offset] = static_cast<float>(value);
      return;
    case Dtype::bf16:
      view.as<bf16>()[offset] = bf16(static_cast<float>(value));
      return;
    case Dtype::f16:
      view.as<f16>()[offset] = f16(static_cast<float>(value));
      return;
    case Dtype::f64:
      view.as<double>()[offset] = value;
      return;
    case Dtype::i32:
      view.as<std::int32_t>()[offset] = static_cast<std::int32_t>(value);
      return;
    case Dtype::i64:
      view.as<std::int64_t>()[offset] = static_cast<std::int64_t>(value);
      return;
    default:
      fail("the reference loops write no {}", name_of(view.dtype));
  }
}

/// The element at an index.
inline double get(const View& view, std::initializer_list<std::int64_t> index) {
  return load(view, offset_of(view, index));
}
inline void set(const View& view, std::initializer_list<std::int64_t> index, double value) {
  store(view, offset_of(view, index), value);
}

/// The i-th element in row-major order, as an offset.
inline std::int64_t nth(const View& view, std::int64_t i) {
  std::int64_t offset = 0;
  for (int axis = view.shape.rank() - 1; axis >= 0; --axis) {
    offset += i % view.shape[axis] * view.strides[axis];
    i /= view.shape[axis];
  }
  return offset;
}

}  // namespace dujiang::ops::reference
