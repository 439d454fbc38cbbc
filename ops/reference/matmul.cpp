#include "ops/reference/matmul.h"

#include <numeric>
#include <vector>

#include "ops/reference/access.h"

namespace dujiang::ops::reference {

void matmul(Stream&, const View& a, const View& b, const View& c, bool accumulate) {
  const std::int64_t m = c.shape[-2], n = c.shape[-1], k = a.shape[-1];
  const std::int64_t batches = m * n == 0 ? 0 : c.count() / (m * n);
  std::vector<double> row(static_cast<std::size_t>(k)), columns(static_cast<std::size_t>(n * k));
  for (std::int64_t batch = 0; batch < batches; ++batch) {
    std::int64_t rest = batch, at_a = 0, at_b = 0, at_c = 0;
    for (int axis = c.shape.rank() - 3; axis >= 0; --axis) {
      const std::int64_t i = rest % c.shape[axis];
      rest /= c.shape[axis];
      at_a += i * a.strides[axis];
      at_b += i * b.strides[axis];
      at_c += i * c.strides[axis];
    }
    for (std::int64_t j = 0; j < n; ++j)
      for (std::int64_t l = 0; l < k; ++l)
        columns[static_cast<std::size_t>(j * k + l)] = load(b, at_b + l * b.strides[-2] + j * b.strides[-1]);
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t l = 0; l < k; ++l)
        row[static_cast<std::size_t>(l)] = load(a, at_a + i * a.strides[-2] + l * a.strides[-1]);
      for (std::int64_t j = 0; j < n; ++j) {
        const std::int64_t out = at_c + i * c.strides[-2] + j * c.strides[-1];
        store(c, out,
              std::inner_product(row.begin(), row.end(), columns.begin() + j * k, accumulate ? load(c, out) : 0));
      }
    }
  }
}

}  // namespace dujiang::ops::reference
