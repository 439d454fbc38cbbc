#include "framework/base/view.h"

#include <utility>

namespace dujiang {

bool View::contiguous() const {
  std::int64_t step = 1;
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    if (shape[axis] != 1 && strides[axis] != step) return count() == 0;
    step *= shape[axis];
  }
  return true;
}

View View::transposed(int axis_a, int axis_b) const {
  View v = *this;
  std::swap(v.shape[axis_a], v.shape[axis_b]);
  std::swap(v.strides[axis_a], v.strides[axis_b]);
  return v;
}

View View::narrowed(int axis, std::int64_t start, std::int64_t length) const {
  DUJIANG_CHECK(start >= 0 && length >= 0 && start + length <= shape[axis],
                "narrow: [{}, {}) is outside axis {} of shape {}", start, start + length, axis, shape.str());
  View v = *this;
  v.shape[axis] = length;
  if (data != nullptr)
    v.data = static_cast<char*>(data) + start * strides[axis] * static_cast<std::int64_t>(size_of(dtype));
  return v;
}

View View::reshaped(Shape to) const {
  DUJIANG_CHECK(to.count() == count(), "reshape: {} has {} elements, {} has {}", shape.str(), count(), to.str(),
                to.count());
  DUJIANG_CHECK(contiguous(), "reshape of a view that is not contiguous: {}", str());
  return View(data, dtype, to, device);
}

std::string View::str() const {
  if (contiguous()) return fmt::format("{}{}", name_of(dtype), shape.str());
  return fmt::format("{}{} strides {}", name_of(dtype), shape.str(), strides.str());
}

}  // namespace dujiang
