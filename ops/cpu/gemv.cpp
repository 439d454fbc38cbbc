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

void gemv(const View& a, const View& b, const View& c, bool accumulate) {
  const GemvTable& table = gemv_table();
  const auto kernel = (c.dtype == Dtype::f32 ? table.wide : table.same)[index_of(a.dtype)];
  const auto at = [](const View& v, std::int64_t elements) {
    return static_cast<char*>(v.data) + elements * static_cast<std::int64_t>(size_of(v.dtype));
  };
  const std::int64_t m = a.shape[0], k = a.shape[1];
  std::shared_ptr<void> wide_x;
  if (const auto widen = table.widen[index_of(a.dtype)]) {
    wide_x = allocate_host(static_cast<std::size_t>(m * k) * sizeof(float));
    parallel_ranges(m, std::max<std::int64_t>(1, 65536 / k), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row)
        widen(at(a, row * a.strides[0]), static_cast<float*>(wide_x.get()) + row * k, k);
    });
  }
  // Whole cache lines of the result per thread; fewer rows than that are not worth a thread.
  constexpr std::int64_t block = 64;
  parallel_ranges((c.shape[1] + block - 1) / block, 1, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t row = begin * block, rows = std::min(end * block, c.shape[1]) - row;
    kernel({.x = wide_x ? wide_x.get() : a.data,
            .weight = at(b, row * b.strides[1]),
            .y = at(c, row),
            .x_stride = wide_x ? k : a.strides[0],
            .weight_stride = b.strides[1],
            .y_stride = c.strides[0],
            .m = m,
            .n = rows,
            .k = k,
            .accumulate = accumulate});
  });
}

}  // namespace dujiang::ops::cpu
