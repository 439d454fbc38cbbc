#include "ops/elementwise.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "framework/base/threads.h"
#include "ops/cpu/arguments.h"
#include "ops/cpu/elementwise_simd.h"

namespace dujiang::ops::cpu {
namespace {

constexpr std::int64_t grain = 32 * 1024;  // elements per thread, at least: a few microseconds of work

/// The common index space of some views, with the fewest axes that describe it: ordered by the last view's strides
/// (so that the output is walked in memory order), axes of one element dropped, axes that continue each other merged.
struct Space {
  int views = 0;
  int rank = 0;
  std::int64_t size[Shape::max_rank] = {};
  std::int64_t stride[5][Shape::max_rank] = {};

  explicit Space(std::initializer_list<const View*> list) : views(static_cast<int>(list.size())) {
    const View* const* view = list.begin();
    const Shape& shape = view[0]->shape;
    const Shape& order = view[views - 1]->strides;
    int axes[Shape::max_rank];
    for (int axis = 0; axis < shape.rank(); ++axis)
      if (shape[axis] != 1) axes[rank++] = axis;
    std::stable_sort(axes, axes + rank, [&](int a, int b) { return order[a] > order[b]; });
    int merged = 0;
    for (int i = 0; i < rank; ++i) {
      bool joins = merged > 0;
      for (int v = 0; v < views && joins; ++v)
        joins = stride[v][merged - 1] == view[v]->strides[axes[i]] * shape[axes[i]];
      if (!joins) ++merged;
      size[merged - 1] = joins ? size[merged - 1] * shape[axes[i]] : shape[axes[i]];
      for (int v = 0; v < views; ++v) stride[v][merged - 1] = view[v]->strides[axes[i]];
    }
    rank = merged;
    if (rank == 0) {  // a single element
      rank = 1;
      size[0] = 1;
    }
    if (size[rank - 1] == 1)
      for (int v = 0; v < views; ++v) stride[v][rank - 1] = 1;
  }
};

/// Calls kernel(Run) on runs along the innermost axis that cover the views.
template <class Kernel>
void for_runs(std::initializer_list<const View*> views, float value, Kernel&& kernel) {
  const View& first = **views.begin();
  if (first.count() == 0) return;
  const Space space(views);
  const int inner = space.rank - 1;
  std::int64_t outer = 1;
  for (int axis = 0; axis < inner; ++axis) outer *= space.size[axis];
  char* base[5];
  std::int64_t bytes[5];
  for (int v = 0; v < space.views; ++v) {
    base[v] = static_cast<char*>(views.begin()[v]->data);
    bytes[v] = static_cast<std::int64_t>(size_of(views.begin()[v]->dtype));
  }
  auto run_at = [&](std::int64_t index, std::int64_t begin, std::int64_t n) {
    Run run{};
    run.n = n;
    run.value = value;
    std::int64_t offset[5];
    for (int v = 0; v < space.views; ++v) {
      run.step[v] = space.stride[v][inner];
      offset[v] = begin * run.step[v];
    }
    for (int axis = inner - 1; axis >= 0; --axis) {
      const std::int64_t i = index % space.size[axis];
      index /= space.size[axis];
      for (int v = 0; v < space.views; ++v) offset[v] += i * space.stride[v][axis];
    }
    for (int v = 0; v < space.views; ++v) run.data[v] = base[v] + offset[v] * bytes[v];
    kernel(run);
  };
  if (outer == 1) {
    parallel_ranges(space.size[inner], grain,
                    [&](std::int64_t begin, std::int64_t end) { run_at(0, begin, end - begin); });
  } else {
    parallel_ranges(outer, grain / space.size[inner] + 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) run_at(i, 0, space.size[inner]);
    });
  }
}

template <class T>
void copy_bits(const Run& run) {
  const auto* x = static_cast<const T*>(run.data[0]);
  auto* y = static_cast<T*>(run.data[1]);
  if (run.step[0] == 1 && run.step[1] == 1)
    std::memmove(y, x, static_cast<std::size_t>(run.n) * sizeof(T));
  else
    for (std::ptrdiff_t i = 0; i < run.n; ++i) y[i * run.step[1]] = x[i * run.step[0]];
}

RunKernel copy_bits_of(Dtype dtype) {
  switch (size_of(dtype)) {
    case 1:
      return copy_bits<std::uint8_t>;
    case 2:
      return copy_bits<std::uint16_t>;
    case 4:
      return copy_bits<std::uint32_t>;
    default:
      return copy_bits<std::uint64_t>;
  }
}

void copy(Stream&, const View& x, const View& y) {
  check_arguments(x.shape == y.shape && (x.dtype == y.dtype || (is_compute(x.dtype) && is_compute(y.dtype))), "copy",
                  "one shape, and one dtype or two of f32, bf16, f16", {{"x", x}, {"y", y}});
  if (x.dtype == y.dtype && x.data == y.data && x.strides == y.strides) return;
  for_runs(
      {&x, &y}, 0,
      x.dtype == y.dtype ? copy_bits_of(x.dtype) : elementwise_table().convert[index_of(x.dtype)][index_of(y.dtype)]);
}

void fill(Stream&, const View& y, float value) {
  check_arguments(is_compute(y.dtype), "fill", "f32, bf16 or f16", {{"y", y}});
  for_runs({&y}, value, elementwise_table().fill[index_of(y.dtype)]);
}

/// Which of a kernel's two variants: same dtype, or f32 output.
std::size_t checked_output(const char* op, const View& a, const View& b, const View& y) {
  check_arguments(a.shape == b.shape && a.shape == y.shape && a.dtype == b.dtype && is_compute(a.dtype) &&
                      (y.dtype == a.dtype || y.dtype == Dtype::f32),
                  op, "one shape, inputs of one dtype f32, bf16 or f16, the output of that dtype or f32",
                  {{"a", a}, {"b", b}, {"y", y}});
  return y.dtype == a.dtype ? 0 : 1;
}

void add(Stream&, const View& a, const View& b, const View& y) {
  const auto out = checked_output("add", a, b, y);
  for_runs({&a, &b, &y}, 0, elementwise_table().add[index_of(a.dtype)][out]);
}

void multiply(Stream&, const View& a, const View& b, const View& y) {
  const auto out = checked_output("multiply", a, b, y);
  for_runs({&a, &b, &y}, 0, elementwise_table().multiply[index_of(a.dtype)][out]);
}

void scale(Stream&, const View& x, float factor, const View& y) {
  const auto out = checked_output("scale", x, x, y);
  for_runs({&x, &y}, factor, elementwise_table().scale[index_of(x.dtype)][out]);
}

void swiglu(Stream&, const View& gate, const View& up, const View& y) {
  check_arguments(gate.shape == up.shape && gate.shape == y.shape && gate.dtype == up.dtype && gate.dtype == y.dtype &&
                      is_compute(gate.dtype),
                  "swiglu", "one shape and one dtype f32, bf16 or f16", {{"gate", gate}, {"up", up}, {"y", y}});
  for_runs({&gate, &up, &y}, 0, elementwise_table().swiglu[index_of(gate.dtype)]);
}

void swiglu_backward(Stream&, const View& dy, const View& gate, const View& up, const View& dgate, const View& dup) {
  bool ok = is_compute(dy.dtype);
  for (const View* v : {&gate, &up, &dgate, &dup}) ok = ok && v->shape == dy.shape && v->dtype == dy.dtype;
  check_arguments(ok, "swiglu_backward", "one shape and one dtype f32, bf16 or f16",
                  {{"dy", dy}, {"gate", gate}, {"up", up}, {"dgate", dgate}, {"dup", dup}});
  for_runs({&dy, &gate, &up, &dgate, &dup}, 0, elementwise_table().swiglu_backward[index_of(dy.dtype)]);
}

/// Sums chunks of a fixed size, then the chunks in order: the same bits for every number of threads.
double total(const View& x, double (*kernel)(const void*, std::ptrdiff_t)) {
  constexpr std::int64_t chunk = 64 * 1024;
  const std::int64_t n = x.count(), chunks = (n + chunk - 1) / chunk;
  std::vector<double> partial(static_cast<std::size_t>(chunks));
  const auto* data = static_cast<const char*>(x.data);
  const auto bytes = static_cast<std::int64_t>(size_of(x.dtype));
  parallel_ranges(chunks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t c = begin; c < end; ++c)
      partial[static_cast<std::size_t>(c)] = kernel(data + c * chunk * bytes, std::min(chunk, n - c * chunk));
  });
  double sum = 0;
  for (double p : partial) sum += p;
  return sum;
}

void check_reduction(const char* op, const View& x, const View& result, Dtype dtype) {
  check_arguments(is_compute(x.dtype) && x.contiguous() && result.dtype == dtype && result.count() == 1, op,
                  dtype == Dtype::f32 ? "x contiguous of f32, bf16 or f16, result f32[1]"
                                      : "x contiguous of f32, bf16 or f16, result f64[1]",
                  {{"x", x}, {"result", result}});
}

void sum(Stream&, const View& x, const View& result) {
  check_reduction("sum", x, result, Dtype::f32);
  *result.as<float>() = static_cast<float>(total(x, elementwise_table().sum[index_of(x.dtype)]));
}

void sum_of_squares(Stream&, const View& x, const View& result) {
  check_reduction("sum_of_squares", x, result, Dtype::f64);
  *result.as<double>() = total(x, elementwise_table().sum_of_squares[index_of(x.dtype)]);
}

[[maybe_unused]] const bool registered =
    ops::copy.add(DeviceType::cpu, copy) && ops::fill.add(DeviceType::cpu, fill) &&
    ops::add.add(DeviceType::cpu, add) && ops::multiply.add(DeviceType::cpu, multiply) &&
    ops::scale.add(DeviceType::cpu, scale) && ops::swiglu.add(DeviceType::cpu, swiglu) &&
    ops::swiglu_backward.add(DeviceType::cpu, swiglu_backward) && ops::sum.add(DeviceType::cpu, sum) &&
    ops::sum_of_squares.add(DeviceType::cpu, sum_of_squares);

}  // namespace
}  // namespace dujiang::ops::cpu
