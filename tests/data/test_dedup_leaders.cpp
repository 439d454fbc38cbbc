// Which documents of a bucket are compared, by signatures that agree in a known number of places.

#include "data/corpus/dedup/leaders.h"

#include <boost/test/unit_test.hpp>
#include <ostream>

using namespace dujiang::data;

namespace dujiang::data {
std::ostream& operator<<(std::ostream& out, const Pair& pair) {
  return out << '(' << pair.a << ", " << pair.b << ')';
}
}  // namespace dujiang::data

namespace {

constexpr std::size_t k = 112;
// At the threshold 0.8 the estimate's doubt is 0.113: 78 places of 112 are likely, 103 are sure.
constexpr double threshold = 0.8;

using Signature = std::vector<std::uint8_t>;
using Pairs = std::vector<Pair>;

// Zeros, but `other` in the last places.
Signature agreeing(std::size_t places, std::uint8_t other) {
  Signature signature(k);
  for (std::size_t i = places; i < k; ++i) signature[i] = other;
  return signature;
}

// The pairs of the last document alone, the documents being 0, 1, 2 ... of one bucket.
Pairs pairs_of_last(const std::vector<Signature>& signatures) {
  Leaders leaders(k, threshold);
  Pairs pairs;
  for (std::size_t d = 0; d < signatures.size(); ++d) {
    pairs.clear();
    leaders.add(7, d, signatures[d], pairs);
  }
  return pairs;
}

}  // namespace

BOOST_AUTO_TEST_CASE(documents_that_are_likely_alike_are_paired) {
  BOOST_TEST(pairs_of_last({agreeing(k, 1)}) == Pairs{}, boost::test_tools::per_element());
  for (std::size_t places = 0; places <= k; ++places) {
    const auto expected = places >= 78 ? Pairs{{0, 1}} : Pairs{};
    BOOST_TEST(pairs_of_last({agreeing(k, 1), agreeing(places, 1)}) == expected, boost::test_tools::per_element());
  }
}

BOOST_AUTO_TEST_CASE(only_a_document_that_is_surely_like_a_leader_is_none) {
  for (std::size_t places = 0; places <= k; ++places) {
    // A third one that equals the second.
    const auto second = agreeing(places, 1);
    const auto expected = places >= 103 ? Pairs{{0, 2}} : Pairs{{1, 2}};
    BOOST_TEST(pairs_of_last({agreeing(k, 1), second, second}) == expected, boost::test_tools::per_element());
  }
}

BOOST_AUTO_TEST_CASE(pairs_of_a_threshold_of_1_are_those_of_equal_signatures) {
  Leaders leaders(k, 1);
  Pairs pairs;
  leaders.add(7, 0, agreeing(k, 1), pairs);
  leaders.add(7, 1, agreeing(k - 1, 1), pairs);
  leaders.add(7, 2, agreeing(k, 1), pairs);
  leaders.add(7, 3, agreeing(k - 1, 1), pairs);
  leaders.add(7, 4, agreeing(k, 1), pairs);  // 2 is no leader
  BOOST_TEST(pairs == (Pairs{{0, 2}, {1, 3}, {0, 4}}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(the_eight_likeliest_leaders_are_paired_the_earlier_first) {
  // All agree with the last one in 78 to 102 places, and none is sure of another.
  const std::size_t places[] = {90, 95, 88, 95, 102, 78, 93, 88, 94, 91, 77};
  std::vector<Signature> signatures;
  for (std::uint8_t d = 0; d < std::size(places); ++d)
    signatures.push_back(agreeing(places[d], static_cast<std::uint8_t>(d + 1)));
  signatures.push_back(agreeing(k, 1));
  const Pairs expected{{4, 11}, {1, 11}, {3, 11}, {8, 11}, {6, 11}, {9, 11}, {0, 11}, {2, 11}};
  BOOST_TEST(pairs_of_last(signatures) == expected, boost::test_tools::per_element());
  // Of nine the last one goes.
  signatures.erase(signatures.begin());
  BOOST_TEST(
      pairs_of_last(signatures) == (Pairs{{3, 10}, {0, 10}, {2, 10}, {7, 10}, {5, 10}, {8, 10}, {1, 10}, {6, 10}}),
      boost::test_tools::per_element());
  // With fewer than eight all are.
  signatures.erase(signatures.begin(), signatures.begin() + 3);
  BOOST_TEST(pairs_of_last(signatures) == (Pairs{{0, 7}, {4, 7}, {2, 7}, {5, 7}, {3, 7}, {1, 7}}),
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(the_32_newest_leaders_are_kept) {
  const auto unlike = [](std::size_t d) { return Signature(k, static_cast<std::uint8_t>(d)); };
  for (const std::size_t count : {1, 31, 32, 33, 40, 64, 70}) {
    std::vector<Signature> signatures;
    for (std::size_t d = 0; d < count; ++d) signatures.push_back(unlike(d));
    for (std::size_t d = 0; d < count; ++d) {
      signatures.push_back(unlike(d));
      const auto expected = d + 32 >= count ? Pairs{{d, count}} : Pairs{};
      BOOST_TEST(pairs_of_last(signatures) == expected, boost::test_tools::per_element());
      signatures.pop_back();
    }
  }
}

BOOST_AUTO_TEST_CASE(a_bucket_knows_no_leaders_of_the_one_before) {
  Leaders leaders(k, threshold);
  Pairs pairs;
  for (const std::uint64_t key : {0, 1, 2}) {
    for (std::size_t d = 0; d < 20; ++d) {
      leaders.add(key, 100 * key + d, Signature(k, static_cast<std::uint8_t>(d)), pairs);
      BOOST_TEST(pairs.empty());
    }
    leaders.add(key, 100 * key + 99, Signature(k, 19), pairs);
    BOOST_TEST(pairs == (Pairs{{100 * key + 19, 100 * key + 99}}), boost::test_tools::per_element());
    pairs.clear();
  }
}
