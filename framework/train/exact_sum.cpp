#include "framework/train/exact_sum.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <mutex>

#include "framework/base/threads.h"

namespace dujiang::train {
namespace {

constexpr std::int64_t grain = 1 << 16;

__extension__ using Wide = unsigned __int128;

// The largest magnitude; infinite where an element is not finite.
double largest(std::span<const float> values) {
  std::mutex mutex;
  double most = 0;
  parallel_ranges(std::ssize(values), grain, [&](std::int64_t begin, std::int64_t end) {
    float part = 0;
    bool finite = true;
    for (std::int64_t i = begin; i < end; ++i) {
      const float magnitude = std::abs(values[static_cast<std::size_t>(i)]);
      part = std::max(part, magnitude);
      finite = finite && magnitude <= std::numeric_limits<float>::max();
    }
    const std::lock_guard lock(mutex);
    most = std::max(most, finite ? static_cast<double>(part) : std::numeric_limits<double>::infinity());
  });
  return most;
}

// Squares of values below 2^26 / scale, in units of scale^-2, cut to integers.
Wide sum_of_squares(std::span<const float> values, double scale) {
  std::mutex mutex;
  Wide sum = 0;
  parallel_ranges(std::ssize(values), grain, [&](std::int64_t begin, std::int64_t end) {
    Wide part = 0;
    while (begin < end) {
      std::int64_t some = 0;  // 1024 terms below 2^52
      const std::int64_t stop = std::min<std::int64_t>(begin + 1024, end);
      for (; begin < stop; ++begin) {
        const double scaled = static_cast<double>(values[static_cast<std::size_t>(begin)]) * scale;
        some += static_cast<std::int64_t>(scaled * scaled);
      }
      part += static_cast<Wide>(some);
    }
    const std::lock_guard lock(mutex);
    sum += part;
  });
  return sum;
}

}  // namespace

double exact_sum_of_squares(std::span<const Tensor> parts, std::span<comm::Communicator* const> communicators) {
  auto& stream = default_stream({});
  double most = 0;
  for (const auto& part : parts) most = std::max(most, largest(part.data<float>()));
  for (auto* ranks : communicators)
    ranks->all_reduce(comm::Buffer{&most, 1, Dtype::f64, {}}, comm::Reduce::max, stream).wait_host();
  if (!std::isfinite(most)) return most;

  const double scale = most == 0 ? 1.0 : std::ldexp(1.0, 25 - std::ilogb(most));  // the largest becomes 2^25 to 2^26
  Wide sum = 0;
  for (const auto& part : parts) sum += sum_of_squares(part.data<float>(), scale);
  // As integers of 40 bits, which leave room for the sums over ranks.
  constexpr Wide mask = (Wide{1} << 40) - 1;
  std::array<std::int64_t, 3> limbs{static_cast<std::int64_t>(sum & mask), static_cast<std::int64_t>(sum >> 40 & mask),
                                    static_cast<std::int64_t>(sum >> 80)};
  for (auto* ranks : communicators)
    ranks->all_reduce(comm::Buffer{limbs.data(), std::ssize(limbs), Dtype::i64, {}}, comm::Reduce::sum, stream)
        .wait_host();
  sum = static_cast<Wide>(limbs[0]) + (static_cast<Wide>(limbs[1]) << 40) + (static_cast<Wide>(limbs[2]) << 80);
  return static_cast<double>(sum) / scale / scale;
}

}  // namespace dujiang::train
