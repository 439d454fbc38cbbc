#include "ops/matmul.h"

#include <algorithm>
#include <memory>

#include "framework/base/allocator.h"
#include "ops/cpu/arguments.h"
#include "ops/cpu/gemm.h"
#include "ops/cpu/gemv.h"
#include "ops/elementwise.h"

namespace dujiang::ops::cpu {
namespace {

/// A view of contiguous memory of its own.
struct Temporary {
  std::shared_ptr<void> memory;
  View view;
  Temporary(Dtype dtype, Shape shape)
      : memory(allocate_host(static_cast<std::size_t>(shape.count()) * size_of(dtype))),
        view(memory.get(), dtype, shape) {}
};

/// A [batch, rows, columns] view as gemm() takes it, if it does: strides of axes with one element are made to fit.
bool as_operand(const View& v, GemmOperand& out) {
  const std::int64_t rows = v.shape[1], columns = v.shape[2];
  std::int64_t row = v.strides[1], column = v.strides[2];
  if (columns == 1) column = 1;
  if (rows == 1) row = column == 1 ? columns : 1;
  const bool valid = (column == 1 && row >= columns) || (row == 1 && column >= rows);
  const std::int64_t batch = v.shape[0] == 1 ? rows * columns : v.strides[0];
  out = {v.data, v.dtype, batch, row, column};
  return valid && batch > 0;
}

/// v in another dtype or without odd strides, its unit-stride axis kept as it is.
Temporary converted(Stream& stream, const View& v, Dtype dtype) {
  const bool columns_first = v.strides[1] == 1 && v.strides[2] != 1;
  const View source = columns_first ? v.transposed(1, 2) : v;
  Temporary copy(dtype, source.shape);
  ops::copy(stream, source, copy.view);
  if (columns_first) copy.view = copy.view.transposed(1, 2);
  return copy;
}

/// a, b, c [batch, ...].
void product(Stream& stream, const View& a, const View& b, const View& c, bool accumulate) {
  GemmOperand pa, pb, pc;
  if (!as_operand(a, pa)) return product(stream, converted(stream, a, a.dtype).view, b, c, accumulate);
  if (!as_operand(b, pb)) return product(stream, a, converted(stream, b, b.dtype).view, c, accumulate);
  check_arguments(as_operand(c, pc) && pc.column == 1, "matmul", "c with unit stride on its last axis and no overlaps",
                  {{"c", c}});
  gemm(c.shape[0], c.shape[1], c.shape[2], a.shape[2], pa, pb, pc, accumulate);
}

/// The [batch, rows, columns] views of a product: the leading axes merged as far as the three views allow, those that
/// stay outer are walked.
struct Batches {
  std::int64_t outer = 1, batch = 1;
  int outer_rank = 0;
  std::int64_t size[Shape::max_rank] = {}, stride[3][Shape::max_rank] = {}, batch_stride[3] = {};

  Batches(const View& a, const View& b, const View& c) {
    const View* views[3] = {&a, &b, &c};
    bool merging = true;
    for (int axis = c.shape.rank() - 3; axis >= 0; --axis) {
      const std::int64_t extent = c.shape[axis];
      if (extent == 1) continue;
      bool joins = merging;
      for (int v = 0; v < 3 && joins; ++v)
        joins = views[v]->strides[axis] != 0 && (batch == 1 || views[v]->strides[axis] == batch_stride[v] * batch);
      if (joins) {
        if (batch == 1)
          for (int v = 0; v < 3; ++v) batch_stride[v] = views[v]->strides[axis];
        batch *= extent;
        continue;
      }
      merging = false;
      for (int v = 0; v < 3; ++v) stride[v][outer_rank] = views[v]->strides[axis];
      size[outer_rank++] = extent;
      outer *= extent;
    }
  }

  View operand(const View& view, int v, std::int64_t index) const {
    std::int64_t offset = 0;
    for (int axis = 0; axis < outer_rank; ++axis) {
      offset += index % size[axis] * stride[v][axis];
      index /= size[axis];
    }
    return View(static_cast<char*>(view.data) + offset * static_cast<std::int64_t>(size_of(view.dtype)), view.dtype,
                {batch, view.shape[-2], view.shape[-1]}, {batch_stride[v], view.strides[-2], view.strides[-1]},
                view.device);
  }
};

void matmul(Stream& stream, const View& a, const View& b, const View& c, bool accumulate) {
  const int rank = c.shape.rank();
  bool ok = rank >= 2 && a.shape.rank() == rank && b.shape.rank() == rank && a.shape[-2] == c.shape[-2] &&
            b.shape[-1] == c.shape[-1] && a.shape[-1] == b.shape[-2] && is_compute(a.dtype) && b.dtype == a.dtype &&
            (c.dtype == a.dtype || c.dtype == Dtype::f32) && unit_last(c);
  for (int axis = 0; ok && axis < rank - 2; ++axis)
    ok = a.shape[axis] == c.shape[axis] && b.shape[axis] == c.shape[axis];
  check_arguments(ok, "matmul",
                  "a [..., m, k], b [..., k, n] of one dtype f32, bf16 or f16, c [..., m, n] of that dtype or f32 with "
                  "unit stride on its last axis",
                  {{"a", a}, {"b", b}, {"c", c}});
  if (c.count() == 0) return;
  if (a.shape[-1] == 0) {
    if (!accumulate) ops::fill(stream, c, 0);
    return;
  }
  if (rank == 2 && gemv_takes(a, b)) return gemv(a, b, c, accumulate);
  const Batches batches(a, b, c);
  for (std::int64_t i = 0; i < batches.outer; ++i)
    product(stream, batches.operand(a, 0, i), batches.operand(b, 1, i), batches.operand(c, 2, i), accumulate);
}

[[maybe_unused]] const bool registered = ops::matmul.add(DeviceType::cpu, matmul);

}  // namespace
}  // namespace dujiang::ops::cpu
