#include "ops/norm.h"

#include <algorithm>

#include "framework/base/allocator.h"
#include "framework/base/threads.h"
#include "ops/cpu/arguments.h"
#include "ops/cpu/norm_simd.h"

namespace dujiang::ops::cpu {
namespace {

bool matrix_like(const View& v, const View& x) {
  return v.shape == x.shape && v.dtype == x.dtype && (unit_last(v) || v.count() == 0);
}
bool vector_of(const View& v, Dtype dtype, std::int64_t n) {
  return v.dtype == dtype && v.shape == Shape{n} && v.contiguous();
}
/// Rows [row, ...) of a view; null stays null.
void* row_of(const View& v, std::int64_t row) {
  return v.defined() ? static_cast<char*>(v.data) + row * v.strides[0] * static_cast<std::int64_t>(size_of(v.dtype))
                     : nullptr;
}
std::int64_t stride_of(const View& v, int axis) {
  return v.defined() ? v.strides[axis] : 0;
}
std::int64_t grain(std::int64_t d) {
  return 8 * 1024 / std::max<std::int64_t>(d, 1) + 1;
}

/// Runs body(begin, end, partial [d]) over chunks of rows, where each call overwrites its partial with its rows'
/// share of dweight, and adds the shares up in the order of the chunks. Chunks depend on the shape alone, so the bits
/// do not depend on the number of threads; short chunks keep each float sum short as well.
template <class Body>
void with_weight_gradient(std::int64_t rows, const View& dweight, bool accumulate, Body&& body) {
  if (!dweight.defined()) {
    parallel_ranges(rows, 16, [&](std::int64_t begin, std::int64_t end) { body(begin, end, nullptr); });
    return;
  }
  const std::int64_t d = dweight.shape[0], size = std::max<std::int64_t>(64, (rows + 255) / 256);
  const std::int64_t chunks = (rows + size - 1) / size;
  const auto memory = allocate_host(static_cast<std::size_t>(chunks * d) * sizeof(float));
  auto* partial = static_cast<float*>(memory.get());
  parallel_ranges(chunks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t c = begin; c < end; ++c) body(c * size, std::min((c + 1) * size, rows), partial + c * d);
  });
  auto* out = dweight.as<float>();
  parallel_ranges(d, 1024, [&](std::int64_t begin, std::int64_t end) {
    if (!accumulate) std::fill(out + begin, out + end, 0.0f);
    for (std::int64_t c = 0; c < chunks; ++c)
      for (std::int64_t i = begin; i < end; ++i) out[i] += partial[c * d + i];
  });
}

void norm_rows(const View& x, const View& residual, const View& weight, float eps, const View& sum, const View& y,
               const View& rstd) {
  const std::int64_t d = x.shape[1];
  parallel_ranges(x.shape[0], grain(d), [&](std::int64_t begin, std::int64_t end) {
    norm_table().forward[index_of(x.dtype)]({.x = row_of(x, begin),
                                             .residual = row_of(residual, begin),
                                             .weight = weight.data,
                                             .sum = row_of(sum, begin),
                                             .y = row_of(y, begin),
                                             .rstd = rstd.as<float>() + begin,
                                             .x_stride = x.strides[0],
                                             .residual_stride = stride_of(residual, 0),
                                             .sum_stride = stride_of(sum, 0),
                                             .y_stride = y.strides[0],
                                             .rows = end - begin,
                                             .d = d,
                                             .eps = eps});
  });
}

constexpr const char* norm_shapes =
    "activations [n, d] of one dtype f32, bf16 or f16 with unit stride on the last axis, weight [d] of the same "
    "dtype, rstd f32 [n]";

void rms_norm(Stream&, const View& x, const View& weight, float eps, const View& y, const View& rstd) {
  check_arguments(x.shape.rank() == 2 && is_compute(x.dtype) && matrix_like(x, x) && matrix_like(y, x) &&
                      vector_of(weight, x.dtype, x.shape[1]) && vector_of(rstd, Dtype::f32, x.shape[0]),
                  "rms_norm", norm_shapes, {{"x", x}, {"weight", weight}, {"y", y}, {"rstd", rstd}});
  norm_rows(x, {}, weight, eps, {}, y, rstd);
}

void add_rms_norm(Stream&, const View& x, const View& residual, const View& weight, float eps, const View& sum,
                  const View& y, const View& rstd) {
  check_arguments(x.shape.rank() == 2 && is_compute(x.dtype) && matrix_like(x, x) && matrix_like(residual, x) &&
                      matrix_like(sum, x) && matrix_like(y, x) && vector_of(weight, x.dtype, x.shape[1]) &&
                      vector_of(rstd, Dtype::f32, x.shape[0]),
                  "add_rms_norm", norm_shapes,
                  {{"x", x}, {"residual", residual}, {"weight", weight}, {"sum", sum}, {"y", y}, {"rstd", rstd}});
  norm_rows(x, residual, weight, eps, sum, y, rstd);
}

void rms_norm_backward(Stream&, const View& dy, const View& x, const View& weight, const View& rstd, const View& addend,
                       const View& dx, const View& dweight, bool accumulate) {
  check_arguments(
      x.shape.rank() == 2 && is_compute(x.dtype) && matrix_like(x, x) && matrix_like(dy, x) && matrix_like(dx, x) &&
          (!addend.defined() || matrix_like(addend, x)) && vector_of(weight, x.dtype, x.shape[1]) &&
          vector_of(rstd, Dtype::f32, x.shape[0]) && (!dweight.defined() || vector_of(dweight, Dtype::f32, x.shape[1])),
      "rms_norm_backward", norm_shapes,
      {{"dy", dy}, {"x", x}, {"weight", weight}, {"rstd", rstd}, {"addend", addend}, {"dx", dx}, {"dweight", dweight}});
  with_weight_gradient(x.shape[0], dweight, accumulate, [&](std::int64_t begin, std::int64_t end, float* partial) {
    norm_table().backward[index_of(x.dtype)]({.dy = row_of(dy, begin),
                                              .x = row_of(x, begin),
                                              .weight = weight.data,
                                              .rstd = rstd.as<float>() + begin,
                                              .addend = row_of(addend, begin),
                                              .dx = row_of(dx, begin),
                                              .dweight = partial,
                                              .dy_stride = dy.strides[0],
                                              .x_stride = x.strides[0],
                                              .addend_stride = stride_of(addend, 0),
                                              .dx_stride = dx.strides[0],
                                              .rows = end - begin,
                                              .d = x.shape[1]});
  });
}

void check_rope(const char* op, const View& x, const View& y, const View& weight, const View& table,
                const View& positions, const View& rstd) {
  check_arguments(y.shape.rank() == 3 && is_compute(y.dtype) && y.shape[2] % 2 == 0 && matrix_like(y, y) &&
                      matrix_like(x, y) && table.shape.rank() == 2 && table.dtype == Dtype::f32 &&
                      table.shape[1] == y.shape[2] && unit_last(table) && positions.dtype == Dtype::i32 &&
                      positions.shape == Shape{y.shape[0]} &&
                      (!weight.defined() || (vector_of(weight, y.dtype, y.shape[2]) && rstd.dtype == Dtype::f32 &&
                                             rstd.shape == Shape{y.shape[0], y.shape[1]} && rstd.contiguous())),
                  op,
                  "activations [n, heads, d] of one dtype f32, bf16 or f16 with d even and unit stride on the last "
                  "axis, weight [d] "
                  "or none, table f32 [positions, d], positions i32 [n], rstd f32 [n, heads]",
                  {{"x", x}, {"y", y}, {"weight", weight}, {"table", table}, {"positions", positions}, {"rstd", rstd}});
  const auto* position = positions.as<std::int32_t>();
  for (std::int64_t i = 0; i < y.shape[0]; ++i) {
    const auto p = position[i * positions.strides[0]];
    DUJIANG_CHECK(p >= 0 && p < table.shape[0], "op {}: position {} of row {} is outside the table's [0, {})", op, p, i,
                  table.shape[0]);
  }
}

/// The arguments of rows [begin, end); x and dy where they are given.
RopeRows rope_rows(const View& x, const View& dy, const View& y, const View& weight, const View& table,
                   const View& positions, const View& rstd, std::int64_t begin, std::int64_t end) {
  return {.x = row_of(x, begin),
          .weight = weight.data,
          .table = table.as<float>(),
          .positions = positions.as<std::int32_t>() + begin * positions.strides[0],
          .dy = row_of(dy, begin),
          .y = row_of(y, begin),
          .rstd = weight.defined() ? rstd.as<float>() + begin * y.shape[1] : nullptr,
          .dweight = nullptr,
          .x_row = stride_of(x, 0),
          .x_head = stride_of(x, 1),
          .y_row = y.strides[0],
          .y_head = y.strides[1],
          .dy_row = stride_of(dy, 0),
          .dy_head = stride_of(dy, 1),
          .table_row = table.strides[0],
          .position_step = positions.strides[0],
          .rows = end - begin,
          .heads = y.shape[1],
          .d = y.shape[2],
          .eps = 0};
}

void norm_rope(Stream&, const View& x, const View& weight, float eps, const View& table, const View& positions,
               const View& y, const View& rstd) {
  check_rope("norm_rope", x, y, weight, table, positions, rstd);
  if (y.count() == 0) return;
  parallel_ranges(y.shape[0], grain(y.shape[1] * y.shape[2]), [&](std::int64_t begin, std::int64_t end) {
    RopeRows rows = rope_rows(x, {}, y, weight, table, positions, rstd, begin, end);
    rows.eps = eps;
    norm_table().rope[index_of(y.dtype)](rows);
  });
}

void norm_rope_backward(Stream&, const View& dy, const View& x, const View& weight, const View& rstd, const View& table,
                        const View& positions, const View& dx, const View& dweight, bool accumulate) {
  check_rope("norm_rope_backward", dy, dx, weight, table, positions, rstd);
  check_arguments(!weight.defined()
                      ? !dweight.defined()
                      : matrix_like(x, dx) && (!dweight.defined() || vector_of(dweight, Dtype::f32, dx.shape[2])),
                  "norm_rope_backward", "with a weight: x like dx and dweight f32 [d]; without: no dweight",
                  {{"x", x}, {"dx", dx}, {"weight", weight}, {"dweight", dweight}});
  const std::int64_t rows = dx.count() == 0 ? 0 : dx.shape[0];
  with_weight_gradient(rows, dweight, accumulate, [&](std::int64_t begin, std::int64_t end, float* partial) {
    RopeRows part = rope_rows(x, dy, dx, weight, table, positions, rstd, begin, end);
    part.dweight = partial;
    norm_table().rope_backward[index_of(dx.dtype)](part);
  });
}

[[maybe_unused]] const bool registered =
    ops::rms_norm.add(DeviceType::cpu, rms_norm) && ops::add_rms_norm.add(DeviceType::cpu, add_rms_norm) &&
    ops::rms_norm_backward.add(DeviceType::cpu, rms_norm_backward) && ops::norm_rope.add(DeviceType::cpu, norm_rope) &&
    ops::norm_rope_backward.add(DeviceType::cpu, norm_rope_backward);

}  // namespace
}  // namespace dujiang::ops::cpu
