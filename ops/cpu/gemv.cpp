#include "ops/cpu/gemv.h"

#include <algorithm>
#include <memory>

#include "framework/base/allocator.h"
#include "framework/base/threads.h"
#include "ops/cpu/arguments.h"
#include "ops/cpu/gemv_simd.h"

namespace dujiang::ops::cpu {

bool gemv_takes(const View& a, const View& b) {
  const std::int64_t k = a.shape[1];
  return a.shape[0] <= 32 && (k == 1 || (a.strides[1] == 1 && b.strides[0] == 1));
}

void widen_x(Dtype dtype, GemvRows& rows, float* memory) {
  const auto widen = gemv_table().widen[index_of(dtype)];
  if (widen == nullptr) return;
  const auto* x = static_cast<const char*>(rows.x);
  const std::int64_t stride = rows.x_stride * static_cast<std::int64_t>(size_of(dtype)), k = rows.k;
  parallel_ranges(rows.m, std::max<std::int64_t>(1, 65536 / k), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) widen(x + row * stride, memory + row * k, k);
  });
  rows.x = memory;
  rows.x_stride = k;
}

void gemv(const View& a, const View& b, const View& c, bool accumulate) {
  const GemvTable& table = gemv_table();
  const auto kernel = (c.dtype == Dtype::f32 ? table.wide : table.same)[index_of(a.dtype)];
  GemvRows all{.x = a.data,
               .weight = b.data,
               .y = c.data,
               .x_stride = a.strides[0],
               .weight_stride = b.strides[1],
               .y_stride = c.strides[0],
               .m = c.shape[0],
               .n = c.shape[1],
               .k = a.shape[1],
               .accumulate = accumulate};
  std::shared_ptr<void> wide;
  if (table.widen[index_of(a.dtype)] != nullptr) {
    wide = allocate_host(static_cast<std::size_t>(all.m * all.k) * sizeof(float));
    widen_x(a.dtype, all, static_cast<float*>(wide.get()));
  }
  // Whole cache lines of the result per thread; fewer rows than that are not worth a thread.
  constexpr std::int64_t block = 64;
  parallel_ranges((all.n + block - 1) / block, 1, [&](std::int64_t begin, std::int64_t end) {
    GemvRows part = all;
    const std::int64_t row = begin * block;
    part.n = std::min(end * block, all.n) - row;
    part.weight =
        static_cast<const char*>(all.weight) + row * all.weight_stride * static_cast<std::int64_t>(size_of(b.dtype));
    part.y = static_cast<char*>(all.y) + row * static_cast<std::int64_t>(size_of(c.dtype));
    kernel(part);
  });
}

}  // namespace dujiang::ops::cpu
