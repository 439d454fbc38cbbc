#include "ops/cpu/gemm.h"

#include <algorithm>

#include "framework/base/allocator.h"
#include "framework/base/threads.h"
#include "ops/cpu/arguments.h"
#include "ops/cpu/gemm_simd.h"
#include "ops/cpu/thread_scratch.h"

namespace dujiang::ops::cpu {
namespace {

std::int64_t divided(std::int64_t n, std::int64_t by) {
  return (n + by - 1) / by;
}

/// Rows of a part: as many parts as threads take in whole rounds, unless too few rows were left to each. Those that
/// must be packed across are half as many, to stay in the cache beside what they are multiplied with.
std::int64_t rows_of_part(const TiledProduct& p, std::int64_t threads) {
  constexpr std::int64_t tile = 6, least = 48;
  const std::int64_t m = p.m, rounds = divided(m, threads * (p.a_column == 1 ? gemm_rows : gemm_rows / 2));
  const std::int64_t parts = std::clamp<std::int64_t>(m / least, 1, rounds * threads);
  return std::min(m, divided(divided(m, parts), tile) * tile);
}

void tiled_gemm(const TiledProduct& p, const TiledGemm& kernel) {
  const std::int64_t threads = omp_in_parallel() ? 1 : thread_count();
  const std::int64_t rows = rows_of_part(p, threads), down = divided(p.m, rows);
  // What is packed of b at once, and how many parts share its panels where there are fewer rows than threads want.
  const std::int64_t panels = divided(p.n, kernel.panel), at_once = std::min(panels, gemm_columns / kernel.panel);
  const std::int64_t across = std::min(at_once, divided(threads, down)), columns = divided(at_once, across);

  const std::int64_t panel_words = kernel.panel_words(p), rows_words = kernel.rows_words(p);
  const std::int64_t sums_floats = kernel.sums_floats(p, rows, columns);
  const bool one_piece = p.k <= kernel.depth;  // else each part keeps its sums until the last piece of k
  const auto memory = [](std::int64_t words) { return allocate_host(static_cast<std::size_t>(words) * 4); };
  const auto packed = memory(at_once * panel_words), kept = memory(one_piece ? 0 : down * across * sums_floats);
  const ThreadScratch scratch((rows_words + (one_piece ? sums_floats : 0)) * 4);
  auto* const b = static_cast<std::uint32_t*>(packed.get());
  for (std::int64_t first = 0; first < panels; first += at_once) {
    const std::int64_t count = std::min(at_once, panels - first);
    for (std::int64_t k = 0; k < p.k; k += kernel.depth) {
      const TiledDepth depth{k, std::min(k + kernel.depth, p.k)};
      parallel_tasks(count, [&](std::int64_t i) { kernel.pack(p, depth, first + i, b + i * panel_words); });
      parallel_tasks(down * across, [&](std::int64_t part) {
        const std::int64_t row = part / across * rows, column = part % across * columns;
        auto* const mine = static_cast<std::uint32_t*>(scratch.mine());
        kernel.multiply(p, depth,
                        {.begin = row,
                         .end = std::min(row + rows, p.m),
                         .first_panel = first + std::min(column, count),
                         .last_panel = first + std::min(column + columns, count),
                         .panels = b + column * panel_words,
                         .sums = one_piece ? reinterpret_cast<float*>(mine + rows_words)
                                           : static_cast<float*>(kept.get()) + part * sums_floats},
                        mine);
      });
    }
  }
}

}  // namespace

void gemm(std::int64_t count, std::int64_t m, std::int64_t n, std::int64_t k, const GemmOperand& a,
          const GemmOperand& b, const GemmOperand& c, bool accumulate) {
  if (a.dtype == Dtype::bf16 && isa() == Isa::amx) return onednn_gemm(count, m, n, k, a, b, c, accumulate);
  const auto& kernels = c.dtype == Dtype::f32 ? tiled_gemms().into_f32 : tiled_gemms().into_same;
  const auto at = [](const GemmOperand& operand, std::int64_t i) {
    return static_cast<char*>(operand.data) + i * operand.batch * static_cast<std::int64_t>(size_of(operand.dtype));
  };
  for (std::int64_t i = 0; i < count; ++i)
    tiled_gemm({.a = at(a, i),
                .b = at(b, i),
                .c = at(c, i),
                .a_row = a.row,
                .a_column = a.column,
                .b_row = b.row,
                .b_column = b.column,
                .c_row = c.row,
                .m = m,
                .n = n,
                .k = k,
                .accumulate = accumulate},
               kernels[index_of(a.dtype)]);
}

}  // namespace dujiang::ops::cpu
