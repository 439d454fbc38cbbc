// The number of a rank's compute threads and where they run.

#include "framework/train/rank_threads.h"

#include <sched.h>
#include <unistd.h>

#include <array>
#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <set>

#include "comm/host/self_communicator.h"
#include "comm/host/thread_communicator.h"
#include "framework/base/threads.h"

using namespace dujiang;

namespace {

std::vector<int> allowed() {
  cpu_set_t set;
  sched_getaffinity(0, sizeof set, &set);
  std::vector<int> processors;
  for (int p = 0; p < CPU_SETSIZE; ++p)
    if (CPU_ISSET(p, &set)) processors.push_back(p);
  return processors;
}

void allow(const std::vector<int>& processors) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int p : processors) CPU_SET(p, &set);
  BOOST_REQUIRE(sched_setaffinity(0, sizeof set, &set) == 0);
}

// Where each thread of the pool may run, the caller's first.
std::vector<std::vector<int>> allowed_of_pool() {
  std::vector<std::vector<int>> all(static_cast<std::size_t>(thread_count()));
#pragma omp parallel
  all[static_cast<std::size_t>(omp_get_thread_num())] = allowed();
  return all;
}

train::RankThreads alone(int wanted) {
  const auto self = comm::make_self_communicator();
  return train::set_rank_threads(wanted, *self);
}

// The environment that a test names, without what OpenMP was told.
struct Fixture {
  Fixture() {
    for (const char* name : {"OMP_NUM_THREADS", "OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY"}) unsetenv(name);
  }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(rank_threads, Fixture)

BOOST_AUTO_TEST_CASE(more_threads_than_processors_and_fewer_stay_free) {
  const auto processors = allowed();
  const auto n = static_cast<int>(processors.size());
  const auto more = alone(n + 1);
  BOOST_TEST(more.threads == n + 1);
  BOOST_TEST(!more.pinned);
  for (const auto& mine : allowed_of_pool()) BOOST_TEST(mine == processors, boost::test_tools::per_element());
  if (n > 1) BOOST_TEST(!alone(n - 1).pinned);
}

BOOST_AUTO_TEST_CASE(what_the_user_told_openmp_holds) {
  setenv("OMP_PROC_BIND", "false", 1);
  BOOST_TEST(!alone(static_cast<int>(allowed().size())).pinned);
}

BOOST_AUTO_TEST_CASE(ranks_that_may_use_the_same_processors_share_them_and_are_not_pinned) {
  const auto processors = static_cast<double>(allowed().size());
  comm::run_threads(2, [&](comm::Communicator& communicator) {
    const auto rank = train::set_rank_threads(0, communicator);
    DUJIANG_CHECK(rank.share == processors / 2, "a share of {}", rank.share);
    DUJIANG_CHECK(rank.threads == std::max(1, static_cast<int>(processors / 2)), "{} threads", rank.threads);
    DUJIANG_CHECK(!rank.pinned, "pinned");
  });
}

BOOST_AUTO_TEST_CASE(ranks_bound_apart_have_all_of_their_processors) {
  const auto processors = allowed();
  if (processors.size() < 2) return;
  comm::run_threads(2, [&](comm::Communicator& communicator) {
    allow({processors[static_cast<std::size_t>(communicator.rank())]});
    const auto rank = train::set_rank_threads(0, communicator);
    DUJIANG_CHECK(rank.threads == 1 && rank.share == 1, "{} of a share of {}", rank.str(), rank.share);
  });
}

BOOST_AUTO_TEST_CASE(a_thread_for_each_processor_is_pinned_to_its_own_but_for_the_caller) {
  const auto processors = allowed();
  const auto rank = alone(0);
  BOOST_TEST(rank.threads == std::ssize(processors));
  BOOST_TEST(rank.pinned == (processors.size() > 1));
  if (!rank.pinned) return;
  std::set<int> used;
  const auto pool = allowed_of_pool();
  for (std::size_t i = 1; i < pool.size(); ++i) {
    BOOST_REQUIRE(pool[i].size() == 1U);
    used.insert(pool[i].front());
  }
  BOOST_TEST(used.size() + 1 == processors.size());
  BOOST_TEST(pool[0] == processors, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(the_pool_keeps_its_threads_through_loops_of_few_parts) {
  set_thread_count(4);
  std::set<pid_t> seen;
  for (int round = 0; round < 4; ++round) {
    parallel_ranges(2, 1, [](std::int64_t, std::int64_t) {});  // two parts
    std::array<pid_t, 4> ids{};
#pragma omp parallel num_threads(4)
    ids[static_cast<std::size_t>(omp_get_thread_num())] = gettid();
    seen.insert(ids.begin(), ids.end());
  }
  BOOST_TEST(seen.size() == 4U);
}

BOOST_AUTO_TEST_SUITE_END()
