#include "framework/train/gemm_ceiling.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "framework/tensor/tensor.h"
#include "ops/matmul.h"

namespace dujiang::train {

double gemm_ceiling_gflops(Dtype dtype, double seconds) {
  using Clock = std::chrono::steady_clock;
  auto& stream = default_stream({});
  double best = 0;
  for (const std::int64_t n : {512, 1024, 2048}) {
    const Tensor a = Tensor::empty({n, n}, dtype), b = Tensor::empty({n, n}, dtype), c = Tensor::empty({n, n}, dtype);
    a.fill(0.5f);
    b.fill(0.25f);
    ops::matmul(stream, a, b, c, false);
    std::vector<double> times;
    const auto end = Clock::now() + std::chrono::duration<double>(seconds);
    while (times.size() < 3 || Clock::now() < end) {
      const auto start = Clock::now();
      ops::matmul(stream, a, b, c, false);
      times.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
    const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
    std::nth_element(times.begin(), middle, times.end());
    best = std::max(best, 2e-9 * static_cast<double>(n * n * n) / *middle);
  }
  return best;
}

}  // namespace dujiang::train
