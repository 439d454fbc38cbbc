#include "ops/reference/norm.h"

#include <cmath>
#include <vector>

#include "ops/reference/access.h"

namespace dujiang::ops::reference {
namespace {

using Row = std::vector<double>;

Row row_at(const View& view, std::int64_t offset) {
  const std::int64_t d = view.shape[-1];
  Row row(static_cast<std::size_t>(d));
  for (std::int64_t i = 0; i < d; ++i) row[static_cast<std::size_t>(i)] = load(view, offset + i * view.strides[-1]);
  return row;
}
void put_row(const View& view, std::int64_t offset, const Row& row) {
  for (std::size_t i = 0; i < row.size(); ++i)
    store(view, offset + static_cast<std::int64_t>(i) * view.strides[-1], row[i]);
}

double reciprocal_deviation(const Row& x, double eps) {
  double squares = 0;
  for (double v : x) squares += v * v;
  return 1 / std::sqrt(squares / static_cast<double>(x.size()) + eps);
}

/// The gradient through y = x * r * weight; adds the weight's to dweight.
Row norm_gradient(const Row& dy, const Row& x, const Row& weight, double r, Row& dweight) {
  double mean = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    mean += dy[i] * weight[i] * x[i] * r / static_cast<double>(x.size());
    dweight[i] += dy[i] * x[i] * r;
  }
  Row dx(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) dx[i] = r * (dy[i] * weight[i] - x[i] * r * mean);
  return dx;
}

void put_weight_gradient(const View& dweight, const Row& gradient, bool accumulate) {
  if (!dweight.defined()) return;
  for (std::int64_t i = 0; i < dweight.shape[0]; ++i)
    set(dweight, {i}, gradient[static_cast<std::size_t>(i)] + (accumulate ? get(dweight, {i}) : 0));
}

/// Turns (x[i], x[i + half]) by the angle whose cosine and sine stand in the table's row; back where `back`.
Row turned(const Row& x, const Row& table, bool back) {
  const std::size_t half = x.size() / 2;
  Row y(x.size());
  for (std::size_t i = 0; i < half; ++i) {
    const double c = table[i], s = back ? -table[i + half] : table[i + half];
    y[i] = x[i] * c - x[i + half] * s;
    y[i + half] = x[i + half] * c + x[i] * s;
  }
  return y;
}

}  // namespace

void rms_norm(Stream&, const View& x, const View& weight, float eps, const View& y, const View& rstd) {
  const Row w = row_at(weight, 0);
  for (std::int64_t n = 0; n < x.shape[0]; ++n) {
    Row row = row_at(x, n * x.strides[0]);
    const double r = reciprocal_deviation(row, eps);
    for (std::size_t i = 0; i < row.size(); ++i) row[i] *= r * w[i];
    put_row(y, n * y.strides[0], row);
    set(rstd, {n}, r);
  }
}

void add_rms_norm(Stream& stream, const View& x, const View& residual, const View& weight, float eps, const View& sum,
                  const View& y, const View& rstd) {
  for (std::int64_t n = 0; n < x.shape[0]; ++n) {
    Row row = row_at(x, n * x.strides[0]);
    const Row other = row_at(residual, n * residual.strides[0]);
    for (std::size_t i = 0; i < row.size(); ++i) row[i] += other[i];
    put_row(sum, n * sum.strides[0], row);
  }
  rms_norm(stream, sum, weight, eps, y, rstd);
}

void rms_norm_backward(Stream&, const View& dy, const View& x, const View& weight, const View& rstd, const View& addend,
                       const View& dx, const View& dweight, bool accumulate) {
  const Row w = row_at(weight, 0);
  Row gradient(w.size(), 0.0);
  for (std::int64_t n = 0; n < x.shape[0]; ++n) {
    Row row = norm_gradient(row_at(dy, n * dy.strides[0]), row_at(x, n * x.strides[0]), w, get(rstd, {n}), gradient);
    if (addend.defined()) {
      const Row other = row_at(addend, n * addend.strides[0]);
      for (std::size_t i = 0; i < row.size(); ++i) row[i] += other[i];
    }
    put_row(dx, n * dx.strides[0], row);
  }
  put_weight_gradient(dweight, gradient, accumulate);
}

void norm_rope(Stream&, const View& x, const View& weight, float eps, const View& table, const View& positions,
               const View& y, const View& rstd) {
  for (std::int64_t n = 0; n < x.shape[0]; ++n) {
    const Row angles = row_at(table, static_cast<std::int64_t>(get(positions, {n})) * table.strides[0]);
    for (std::int64_t head = 0; head < x.shape[1]; ++head) {
      Row row = row_at(x, offset_of(x, {n, head}));
      if (weight.defined()) {
        const Row w = row_at(weight, 0);
        const double r = reciprocal_deviation(row, eps);
        for (std::size_t i = 0; i < row.size(); ++i) row[i] *= r * w[i];
        set(rstd, {n, head}, r);
      }
      put_row(y, offset_of(y, {n, head}), turned(row, angles, false));
    }
  }
}

void norm_rope_backward(Stream&, const View& dy, const View& x, const View& weight, const View& rstd, const View& table,
                        const View& positions, const View& dx, const View& dweight, bool accumulate) {
  Row gradient(static_cast<std::size_t>(dy.shape[2]), 0.0);
  for (std::int64_t n = 0; n < dy.shape[0]; ++n) {
    const Row angles = row_at(table, static_cast<std::int64_t>(get(positions, {n})) * table.strides[0]);
    for (std::int64_t head = 0; head < dy.shape[1]; ++head) {
      Row row = turned(row_at(dy, offset_of(dy, {n, head})), angles, true);
      if (weight.defined())
        row = norm_gradient(row, row_at(x, offset_of(x, {n, head})), row_at(weight, 0), get(rstd, {n, head}), gradient);
      put_row(dx, offset_of(dx, {n, head}), row);
    }
  }
  put_weight_gradient(dweight, gradient, accumulate);
}

}  // namespace dujiang::ops::reference
