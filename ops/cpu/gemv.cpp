#include "ops/cpu/gemv.h"

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
  // Whole cache lines of the result per thread; fewer rows than that are not worth a thread.
  constexpr std::int64_t block = 64;
  parallel_ranges((c.shape[1] + block - 1) / block, 1, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t row = begin * block, rows = std::min(end * block, c.shape[1]) - row;
    const auto at = [](const View& v, std::int64_t elements) {
      return static_cast<char*>(v.data) + elements * static_cast<std::int64_t>(size_of(v.dtype));
    };
    kernel({.x = a.data,
            .weight = at(b, row * b.strides[1]),
            .y = at(c, row),
            .x_stride = a.strides[0],
            .weight_stride = b.strides[1],
            .y_stride = c.strides[0],
            .m = c.shape[0],
            .n = rows,
            .k = a.shape[1],
            .accumulate = accumulate});
  });
}

}  // namespace dujiang::ops::cpu
