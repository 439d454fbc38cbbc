#include <boost/test/unit_test.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "framework/base/allocator.h"
#include "framework/base/philox.h"
#include "framework/base/threads.h"
#include "framework/base/view.h"

using namespace dujiang;

BOOST_AUTO_TEST_CASE(every_f16_survives_a_round_trip_through_float) {
  for (unsigned bits = 0; bits < 65536; ++bits) {
    f16 h;
    h.bits = static_cast<std::uint16_t>(bits);
    const float value = h;
    if (std::isnan(value)) {
      BOOST_TEST(std::isnan(static_cast<float>(f16(value))));
    } else {
      BOOST_TEST(f16(value).bits == bits);
    }
  }
}

BOOST_AUTO_TEST_CASE(half_types_round_to_nearest_even) {
  BOOST_TEST(f16(2049.0f) == 2048.0f);  // halfway between 2048 and 2050
  BOOST_TEST(f16(2051.0f) == 2052.0f);
  BOOST_TEST(f16(65519.0f) == 65504.0f);
  BOOST_TEST(std::isinf(static_cast<float>(f16(65520.0f))));
  BOOST_TEST(f16(0x1p-25f) == 0.0f);  // halfway to the smallest subnormal
  BOOST_TEST(f16(0x1.8p-25f) == 0x1p-24f);
  BOOST_TEST(bf16(257.0f) == 256.0f);
  BOOST_TEST(bf16(259.0f) == 260.0f);
  BOOST_TEST(std::isnan(static_cast<float>(bf16(std::numeric_limits<float>::quiet_NaN()))));
  BOOST_TEST(std::isinf(static_cast<float>(bf16(std::numeric_limits<float>::max()))));
}

BOOST_AUTO_TEST_CASE(philox_matches_the_published_vectors) {
  // Random123's known-answer vectors for philox4x32-10.
  using Block = std::array<std::uint32_t, 4>;
  BOOST_TEST((Philox(0, 0).block(0) == Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const auto ones = ~std::uint64_t{0};
  BOOST_TEST((Philox(ones, ones).block(ones) == Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
}

BOOST_AUTO_TEST_CASE(philox_normals_have_mean_zero_and_variance_one) {
  const Philox random(7, stream_of("weights"));
  double sum = 0, squares = 0;
  const int n = 100000;
  for (int i = 0; i < n; ++i) {
    const double x = random.normal(static_cast<std::uint64_t>(i));
    sum += x;
    squares += x * x;
  }
  BOOST_TEST(std::abs(sum / n) < 0.02);            // six standard errors
  BOOST_TEST(std::abs(squares / n - 1.0) < 0.03);  // likewise
}

BOOST_AUTO_TEST_CASE(views_know_whether_they_are_contiguous) {
  std::vector<float> data(24);
  const View v(data.data(), Dtype::f32, {2, 3, 4});
  BOOST_TEST(v.contiguous());
  BOOST_TEST(!v.transposed(0, 1).contiguous());
  BOOST_TEST(v.narrowed(0, 1, 1).contiguous());
  BOOST_TEST(!v.narrowed(2, 1, 2).contiguous());
  BOOST_TEST(v.narrowed(1, 1, 2).as<float>() == data.data() + 4);
  BOOST_CHECK_THROW(v.narrowed(1, 2, 2), Error);
  BOOST_CHECK_THROW(v.reshaped({5, 5}), Error);
  BOOST_CHECK_THROW(v.as<int>(), Error);
}

BOOST_AUTO_TEST_CASE(allocator_hands_a_freed_block_out_again) {
  trim_host_allocator();
  void* first = nullptr;
  {
    const auto block = allocate_host(3 << 20);
    first = block.get();
    std::memset(first, 1, 3 << 20);
  }
  const auto calls = host_allocator_stats().system_calls;
  const auto again = allocate_host((3 << 20) - 100);
  BOOST_TEST(again.get() == first);
  BOOST_TEST(host_allocator_stats().system_calls == calls);
}

BOOST_AUTO_TEST_CASE(parallel_ranges_cover_everything_once) {
  for (const std::int64_t n : {0, 1, 2, 7, 1000}) {
    std::vector<int> seen(static_cast<std::size_t>(n));
    parallel_ranges(n, 3, [&](std::int64_t begin, std::int64_t end) {
      for (auto i = begin; i < end; ++i) ++seen[static_cast<std::size_t>(i)];
    });
    for (int count : seen) BOOST_TEST(count == 1);
  }
}
