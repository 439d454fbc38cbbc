#pragma once
// Ranks as threads, each with its own part of an axis, its own graph, and collectives between them; and what they have
// in the end compared to the bit with what one rank with one thread has.

#include <boost/test/unit_test.hpp>
#include <string>
#include <vector>

#include "comm/host/thread_communicator.h"
#include "framework/base/threads.h"
#include "tests/support/gradcheck.h"

namespace dujiang::test {

/// What a rank has in the end: a whole tensor, or of a cut axis the part from `start`.
struct Part {
  Tensor tensor;
  int axis = -1;
  std::int64_t start = 0;
};
using Parts = std::vector<Part>;
using Rank = std::function<Parts(comm::Communicator&)>;

inline std::vector<Parts> on_ranks(int ranks, int threads, const Rank& body) {
  std::vector<Parts> all(static_cast<std::size_t>(ranks));
  comm::run_threads(ranks, [&](comm::Communicator& c) {
    set_thread_count(threads);
    all[static_cast<std::size_t>(c.rank())] = body(c);
  });
  return all;
}

/// Checks 1, 2 and 4 (and, where asked, 8) ranks with 1, 2 and 3 threads each against one rank with one thread, and
/// returns what that has. On 8 ranks each has one of `ways` slices, which then is no parallel region's.
inline Parts check_layouts(const std::string& what, const Rank& body, int most_ranks = 4) {
  const Parts whole = on_ranks(1, 1, body)[0];
  for (const auto& [ranks, threads] : {std::pair{1, 2}, {1, 3}, {2, 1}, {2, 3}, {4, 1}, {4, 2}, {8, 2}}) {
    if (ranks > most_ranks) continue;
    const auto all = on_ranks(ranks, threads, body);
    for (std::size_t r = 0; r < all.size(); ++r)
      for (std::size_t i = 0; i < whole.size(); ++i) {
        const auto& [tensor, axis, start] = all[r][i];
        const Tensor& expected = whole[i].tensor;
        BOOST_TEST(same_bits(tensor, axis < 0 ? expected : expected.narrow(axis, start, tensor.size(axis))),
                   what << ": output " << i << " on rank " << r << " of " << ranks << ", " << threads << " threads");
      }
  }
  return whole;
}

inline std::function<void(const Tensor&)> sum_over(comm::Communicator& c) {
  if (c.size() == 1) return nullptr;
  return [&c](const Tensor& t) {
    auto& stream = default_stream(t.device());
    c.all_reduce(comm::buffer_of(t), comm::Reduce::sum, stream).wait(stream);
  };
}

inline Tensor values_of(Shape shape, std::uint64_t seed, Dtype dtype) {
  return random_tensor(shape, seed).to(dtype);
}

inline Tensor leaf_of(const Tensor& values) {
  Tensor leaf = values.clone();
  autograd::require_grad(leaf);
  return leaf;
}

inline constexpr int ways = 8;
/// Rank c's share of `length`: where it starts, how long it is.
struct Share {
  std::int64_t start, length;
  Share(std::int64_t whole, const comm::Communicator& c)
      : start(whole / c.size() * c.rank()), length(whole / c.size()) {}
  Tensor of(const Tensor& t, int axis) const { return t.narrow(axis, start, length); }
};

}  // namespace dujiang::test
