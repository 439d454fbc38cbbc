// The watchdog among threads that share a store in memory. Times are short; nothing here asserts that something is
// quick, but for bounds that a loaded machine keeps too.

#include "comm/watch/watchdog.h"

#include <boost/test/unit_test.hpp>
#include <thread>

#include "framework/base/check.h"
#include "tests/comm/memory_store.h"

using namespace dujiang;
using namespace dujiang::comm;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

namespace {

constexpr Signature sum_of_8{Op::all_reduce, Dtype::f32, Reduce::sum, 0, 8};
constexpr Signature gather_of_2{Op::all_gather, Dtype::f32, Reduce::sum, 0, 2};
const auto here = std::source_location::current();

// One rank: its watchdog, its record of "world", and the line that its watchdog ends the process with.
class Rank {
 public:
  Rank(std::shared_ptr<MemoryStore::Hub> hub, int rank, int size, Watchdog::Options options) {
    options.end_process = [this](const std::string& line) {
      const std::lock_guard lock(mutex_);
      lines_.push_back(line);
      ended_.notify_all();
    };
    watchdog = std::make_shared<Watchdog>(std::make_shared<MemoryStore>(std::move(hub)), rank, size, options);
    std::vector<int> members;
    for (int r = 0; r < size; ++r) members.push_back(r);
    world = std::make_shared<Flight>("world", members, rank, watchdog);
  }
  ~Rank() { leave(); }
  Rank(const Rank&) = delete;
  Rank& operator=(const Rank&) = delete;

  void leave() {
    world.reset();
    watchdog.reset();
  }

  Flight::Entry request(const Signature& signature, std::source_location where = here) {
    auto entry = world->request(signature, 0, where);
    world->start(entry.id);
    return entry;
  }
  void complete(const Signature& signature) { world->finish(request(signature).id); }

  /// What it ended with; fails when it doesn't end.
  std::string line(std::chrono::milliseconds limit = 20s) {
    std::unique_lock lock(mutex_);
    BOOST_REQUIRE(ended_.wait_for(lock, limit, [this] { return !lines_.empty(); }));
    BOOST_TEST(lines_.size() == 1U);
    return lines_[0];
  }
  bool ended_within(std::chrono::milliseconds limit) {
    std::unique_lock lock(mutex_);
    return ended_.wait_for(lock, limit, [this] { return !lines_.empty(); });
  }

 private:
  std::mutex mutex_;
  std::condition_variable ended_;
  std::vector<std::string> lines_;

 public:
  std::shared_ptr<Watchdog> watchdog;
  std::shared_ptr<Flight> world;
};

struct Job {
  explicit Job(int size, Watchdog::Options options = {.timeout = 700ms, .check = AgreementCheck::off}) {
    for (int r = 0; r < size; ++r) ranks.push_back(std::make_unique<Rank>(hub, r, size, options));
  }
  ~Job() { hub->hang(false); }
  Rank& operator[](int r) { return *ranks[static_cast<std::size_t>(r)]; }

  std::shared_ptr<MemoryStore::Hub> hub = std::make_shared<MemoryStore::Hub>();
  std::vector<std::unique_ptr<Rank>> ranks;
};

bool contains(const std::string& text, const std::string& part) {
  BOOST_TEST_INFO("\"" << text << "\" lacks \"" << part << "\"");
  return text.find(part) != std::string::npos;
}

// The message of the Error that `body` throws.
template <class Body>
std::string refusal(Body body) {
  try {
    body();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

}  // namespace

BOOST_AUTO_TEST_CASE(waiters_name_the_late_rank_and_the_late_rank_says_that_it_ends) {
  Job job(3);
  for (int r = 0; r < 3; ++r) job[r].complete(gather_of_2);
  job[0].request(sum_of_8);
  job[2].request(sum_of_8);
  for (const int r : {0, 2}) {
    const auto line = job[r].line();
    BOOST_TEST(contains(line, "dujiang: rank " + std::to_string(r) +
                                  " of 3: all_reduce sum of 8 x f32 (communicator "
                                  "world, operation 2, called from tests/comm/test_watchdog.cpp:"));
    BOOST_TEST(contains(line, " for rank 1, which finished operation 1 (all_gather of 2 x f32, called from "));
    BOOST_TEST(contains(line, " ago and has requested nothing since; its process is alive"));
  }
  BOOST_TEST(
      contains(job[1].line(), "gave up waiting; this rank was in no operation, its last one was all_gather of 2"));
}

BOOST_AUTO_TEST_CASE(a_rank_late_by_less_than_the_timeout_is_waited_for) {
  Job job(2, {.timeout = 2s, .check = AgreementCheck::off});
  const auto entry = job[0].request(sum_of_8);
  std::this_thread::sleep_for(1s);
  job[0].world->finish(entry.id);
  job[1].complete(sum_of_8);
  BOOST_TEST(!job[0].ended_within(2500ms));
  BOOST_TEST(!job[1].ended_within(0ms));
}

BOOST_AUTO_TEST_CASE(timeout_0_waits_for_ever) {
  Job job(2, {.timeout = 0ms, .check = AgreementCheck::off});
  job[0].request(sum_of_8);
  BOOST_TEST(!job[0].ended_within(1200ms));
}

BOOST_AUTO_TEST_CASE(a_queue_that_moves_is_not_stuck) {
  Job job(2, {.timeout = 1s, .check = AgreementCheck::off});
  std::vector<Flight::Entry> queue;
  for (int i = 0; i < 8; ++i) queue.push_back(job[0].world->request(sum_of_8, 0, here));
  for (const auto& entry : queue) {
    job[0].world->start(entry.id);
    std::this_thread::sleep_for(300ms);
    job[0].world->finish(entry.id);
  }
  BOOST_TEST(!job[0].ended_within(0ms));
}

BOOST_AUTO_TEST_CASE(a_rank_without_a_sign_of_life_is_called_stopped) {
  Job job(2, {.timeout = 5s, .check = AgreementCheck::off});
  {
    const std::lock_guard lock(job.hub->mutex);
    job.hub->values["alive/2"] = "1";  // nobody's heartbeat moves
  }
  Rank third(job.hub, 0, 3, {.timeout = 5s, .check = AgreementCheck::off});
  third.complete(gather_of_2);
  third.request(sum_of_8);
  const auto line = third.line();
  BOOST_TEST(contains(line, "for rank 2, which has shown no sign of life for "));
  BOOST_TEST(contains(line, "(rank 1 is missing too)"));
}

BOOST_AUTO_TEST_CASE(a_rank_in_another_operation_is_named_with_it) {
  Job job(2);
  job[0].request(sum_of_8);
  job[1].request({Op::broadcast, Dtype::f32, Reduce::sum, 0, 4});
  BOOST_TEST(contains(job[0].line(), "for rank 1, which requested broadcast of 4 x f32 from rank 0 (called from "));
  BOOST_TEST(contains(job[1].line(), "for rank 0, which requested all_reduce sum of 8 x f32 (called from "));
}

BOOST_AUTO_TEST_CASE(a_death_ends_all_at_once_with_what_they_were_doing) {
  Job job(3, {.timeout = 100s, .check = AgreementCheck::off});
  job[0].request(sum_of_8);
  job[1].complete(gather_of_2);
  job.hub->lose(2);
  BOOST_TEST(contains(job[0].line(), "rank 2's process is gone (no farewell) while this rank was in all_reduce"));
  BOOST_TEST(contains(job[1].line(), "rank 2's process is gone (no farewell) while this rank computed; its last "));
}

BOOST_AUTO_TEST_CASE(a_death_is_told_though_the_store_hangs) {
  Job job(3, {.timeout = 100s, .check = AgreementCheck::off});
  job[1].request(sum_of_8);
  job.hub->hang(true);
  job.hub->lose(0);
  BOOST_TEST(contains(job[1].line(), "rank 0's process is gone (no farewell) while this rank was in all_reduce"));
  job.hub->hang(false);
}

BOOST_AUTO_TEST_CASE(a_store_that_hangs_is_a_stopped_rank_0) {
  Job job(2);
  job[1].request(sum_of_8);
  job.hub->hang(true);
  BOOST_TEST(contains(job[1].line(), "for rank 0, whose process doesn't answer"));
  job.hub->hang(false);
}

BOOST_AUTO_TEST_CASE(a_death_outside_of_ones_communicators_is_no_matter) {
  Job job(3, {.timeout = 100s, .check = AgreementCheck::off});
  const auto part = job[0].world->child(0, {0, 1});
  job[0].world.reset();
  job[1].watchdog->silence();
  job.hub->lose(2);
  BOOST_TEST(!job[0].ended_within(500ms));
  job.hub->lose(1);
  BOOST_TEST(contains(job[0].line(), "rank 1's process is gone"));
}

BOOST_AUTO_TEST_CASE(an_orderly_end_is_no_death_but_whom_it_leaves_in_an_operation_says_so_before_the_timeout) {
  Job job(3, {.timeout = 100s, .check = AgreementCheck::off});
  for (int r = 0; r < 3; ++r) job[r].complete(gather_of_2);
  job[2].world.reset();  // its process may yet wait for the others to finalise MPI
  BOOST_TEST(!job[1].ended_within(1s));
  job[0].request(sum_of_8);
  const auto line = job[0].line();
  BOOST_TEST(contains(line, " for rank 2, which finished operation 1 (all_gather of 2 x f32, called from "));
  BOOST_TEST(contains(line, "its program has ended"));
}

BOOST_AUTO_TEST_CASE(who_has_left_is_still_said_to_have_left_when_it_ends_with_the_others) {
  Job job(3, {.timeout = 100s, .check = AgreementCheck::off});
  for (int r = 0; r < 3; ++r) job[r].complete(gather_of_2);
  job[2].world.reset();
  job[0].request(sum_of_8);
  BOOST_TEST(contains(job[0].line(), "its program has ended"));
  BOOST_TEST(contains(job[2].line(), "ends because rank 0 gave up waiting"));
  const std::lock_guard lock(job.hub->mutex);
  BOOST_TEST(job.hub->values["ended/2"] == Watchdog::ended_orderly);
}

BOOST_AUTO_TEST_CASE(a_rank_that_told_its_own_error_is_not_told_of_again) {
  Job job(2, {.timeout = 100s, .check = AgreementCheck::off});
  job[0].request(sum_of_8);
  {
    const std::lock_guard lock(job.hub->mutex);
    job.hub->values["ended/1"] = "the fault of one";
  }
  job.hub->lose(1);
  BOOST_TEST(job[0].line() == "");
}

BOOST_AUTO_TEST_CASE(a_silenced_watchdog_says_nothing) {
  Job job(2);
  job[0].watchdog->silence();
  job[0].request(sum_of_8);
  BOOST_TEST(!job[0].ended_within(2s));
}

BOOST_AUTO_TEST_CASE(a_transport_learns_which_rank_is_to_blame_for_its_failure) {
  Job job(2, {.timeout = 100s, .check = AgreementCheck::off});
  BOOST_TEST(job[0].watchdog->diagnosis() == "");
  job[1].request(sum_of_8);
  {
    const std::lock_guard lock(job.hub->mutex);
    job.hub->gone.insert(0);  // the transport notices before the watchdog is told
  }
  auto line = job[1].watchdog->diagnosis();
  if (line.empty()) line = job[1].line();  // told by the one or by the other
  BOOST_TEST(contains(line, "rank 0's process is gone (no farewell) while this rank was in all_reduce"));
}

BOOST_AUTO_TEST_CASE(a_failed_communicator_is_poisoned_and_says_why) {
  Job job(2);
  const auto entry = job[0].request(sum_of_8);
  job[0].request(sum_of_8);  // stays behind, pending
  job[0].world->fail(entry.id, "the link broke");
  job[0].world->fail(entry.id, "something else");
  for (int i = 0; i < 2; ++i) {
    BOOST_TEST(refusal([&] { job[0].request(gather_of_2); }) ==
               "all_gather (communicator world): refused, because an earlier operation failed: the link broke");
  }
  BOOST_TEST(job[0].world->poisoned());
  BOOST_TEST(!job[0].ended_within(1500ms));  // its error has a message of its own
}

// The agreement check.

namespace {

// Every rank requests its signature and has it agreed upon; what each of them got for it.
std::vector<std::string> agree(Job& job, const std::vector<Signature>& signatures, std::source_location where) {
  std::vector<std::string> got(signatures.size());
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < signatures.size(); ++r) {
    threads.emplace_back([&, r] {
      auto& rank = job[static_cast<int>(r)];
      const auto entry = rank.request(signatures[r], where);
      got[r] = refusal([&] { rank.watchdog->agree(*rank.world, entry); });
      rank.world->finish(entry.id);
    });
  }
  for (auto& thread : threads) thread.join();
  return got;
}

const std::vector<std::string> all_well(4, "no error");

}  // namespace

BOOST_AUTO_TEST_CASE(ranks_that_request_alike_agree) {
  Job job(4, {.timeout = 100s});
  for (int i = 0; i < 20; ++i) {
    const auto where = i % 2 == 0 ? here : std::source_location::current();
    BOOST_TEST(agree(job, {4, sum_of_8}, where) == all_well);
  }
}

BOOST_AUTO_TEST_CASE(any_difference_is_refused_by_all_with_both_ranks_operations_and_places) {
  for (const Signature other : {gather_of_2, Signature{Op::all_reduce, Dtype::f32, Reduce::sum, 0, 9},
                                Signature{Op::all_reduce, Dtype::bf16, Reduce::sum, 0, 8},
                                Signature{Op::all_reduce, Dtype::f32, Reduce::max, 0, 8},
                                Signature{Op::all_reduce, Dtype::f32, Reduce::sum, 1, 8}}) {
    Job job(3, {.timeout = 100s});
    const auto got = agree(job, {sum_of_8, other, sum_of_8}, here);
    for (const auto& text : got) {
      BOOST_TEST(text == got[0]);  // so that a job tells it once
      BOOST_TEST(contains(text, "ranks disagree on operation 1 of communicator world: rank 0 requested " +
                                    sum_of_8.str() + " (called from tests/comm/test_watchdog.cpp:"));
      BOOST_TEST(contains(text, "rank 1 requested " + other.str() + " (called from tests/comm/test_watchdog.cpp:"));
    }
  }
}

BOOST_AUTO_TEST_CASE(a_call_site_is_checked_once_and_always_when_asked_to) {
  for (const auto check : {AgreementCheck::first, AgreementCheck::always, AgreementCheck::off}) {
    Job job(2, {.timeout = 100s, .check = check});
    BOOST_TEST(agree(job, {2, sum_of_8}, here) == std::vector<std::string>(2, "no error"));
    const auto got = agree(job, {sum_of_8, gather_of_2}, here);
    for (const auto& text : got) {
      BOOST_TEST((text != "no error") == (check == AgreementCheck::always));
    }
  }
}

BOOST_AUTO_TEST_CASE(each_communicator_checks_a_call_site_anew) {
  Job job(2, {.timeout = 100s});
  BOOST_TEST(agree(job, {2, sum_of_8}, here) == std::vector<std::string>(2, "no error"));
  for (int i = 0; i < 2; ++i) {
    for (int r = 0; r < 2; ++r) job[r].world = job[r].world->child(0, {0, 1});
    const auto got = agree(job, {sum_of_8, gather_of_2}, here);
    for (const auto& text : got) BOOST_TEST(contains(text, "of communicator world/0.0"));
  }
}

BOOST_AUTO_TEST_CASE(a_late_rank_makes_the_check_wait) {
  Job job(2, {.timeout = 100s});
  std::atomic<bool> done{false};
  std::thread first([&] {
    const auto entry = job[0].request(sum_of_8);
    job[0].watchdog->agree(*job[0].world, entry);
    done = true;
  });
  std::this_thread::sleep_for(500ms);
  BOOST_TEST(!done);
  const auto entry = job[1].request(sum_of_8);
  job[1].watchdog->agree(*job[1].world, entry);
  first.join();
  BOOST_TEST(done);
}

BOOST_AUTO_TEST_CASE(a_rank_that_does_not_check_is_compared_all_the_same) {
  Job job(2, {.timeout = 100s});
  job[1].request(gather_of_2);
  const auto entry = job[0].request(sum_of_8);
  BOOST_TEST(contains(refusal([&] { job[0].watchdog->agree(*job[0].world, entry); }),
                      "rank 0 requested all_reduce sum of 8 x f32"));
  Job other(2, {.timeout = 100s});
  other[1].complete(sum_of_8);  // a root's may be done before the others come, and its communicator gone
  other[1].leave();
  const auto same = other[0].request(sum_of_8);
  BOOST_TEST(refusal([&] { other[0].watchdog->agree(*other[0].world, same); }) == "no error");
}

BOOST_AUTO_TEST_CASE(a_rank_that_never_comes_ends_the_check_with_the_watchdogs_line) {
  Job job(2, {.timeout = 1s});
  const auto entry = job[0].request(sum_of_8);
  BOOST_TEST(refusal([&] { job[0].watchdog->agree(*job[0].world, entry); }) == "no error");
  BOOST_TEST(contains(job[0].line(), "for rank 1, which requested nothing yet"));
}
