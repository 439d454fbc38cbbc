#pragma once
// Checks of the views that a CPU kernel is given.

#include <initializer_list>
#include <string_view>

#include "framework/base/view.h"

namespace dujiang::ops::cpu {

struct Argument {
  const char* name;
  const View& view;
};

/// Throws "op NAME: expected EXPECTED; found x bf16[2, 3], ...".
[[noreturn]] void fail_arguments(const char* op, std::string_view expected, std::initializer_list<Argument> found);

inline void check_arguments(bool ok, const char* op, std::string_view expected, std::initializer_list<Argument> found) {
  if (!ok) [[unlikely]]
    fail_arguments(op, expected, found);
}

/// f32, bf16 or f16: what kernels compute on. Their numbers 0, 1, 2 index kernel tables.
inline bool is_compute(Dtype dtype) {
  return dtype == Dtype::f32 || is_half(dtype);
}
static_assert(static_cast<int>(Dtype::f32) == 0 && static_cast<int>(Dtype::bf16) == 1 &&
              static_cast<int>(Dtype::f16) == 2);
inline std::size_t index_of(Dtype dtype) {
  return static_cast<std::size_t>(dtype);
}

/// Whether the last axis has unit stride (or at most one element).
inline bool unit_last(const View& v) {
  return v.shape.rank() > 0 && (v.shape[-1] <= 1 || v.strides[-1] == 1);
}

}  // namespace dujiang::ops::cpu
