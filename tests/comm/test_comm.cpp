#include <mpi.h>

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <cstdlib>

#include "comm/bootstrap.h"
#include "comm/host/host_group.h"
#include "comm/host/self_communicator.h"
#include "comm/host/thread_communicator.h"
#include "comm/host/tree_reduce.h"
#include "comm/host/worker.h"
#include "conformance.h"
#include "framework/base/check.h"

using namespace dujiang;
using namespace dujiang::comm;
namespace data = boost::unit_test::data;

namespace {

Stream stream{Device{}};

template <class T>
Buffer buffer(std::vector<T>& v) {
  return {v.data(), static_cast<std::int64_t>(v.size()), dtype_of<T>, {}};
}

template <class Body>
std::string message_of(Body body) {
  try {
    body();
  } catch (const Error& e) {
    return e.what();
  }
  return "nothing was thrown";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

BOOST_AUTO_TEST_CASE(self_conforms) {
  const auto self = make_self_communicator();
  check_operations(*self);
  check_queued_operations(*self);
  check_split(*self);
}

BOOST_DATA_TEST_CASE(threads_conform, data::make({1, 2, 3, 4, 5, 7, 8}), ranks) {
  run_threads(ranks, [](Communicator& c) {
    check_operations(c);
    check_chunk_boundaries(c, static_cast<std::int64_t>(HostGroup::small_bytes(c.size())));
    check_queued_operations(c);
    check_split(c);
    check_two_threads(c);
    check_many_communicators(c, 20);
    if (c.size() <= 3) check_size(c, 9 << 20);
  });
}

BOOST_DATA_TEST_CASE(threads_conform_through_staging_areas, data::make({2, 3, 5, 8}), ranks) {
  run_threads(ranks,
              [](Communicator& c) {
                check_operations(c);
                check_chunk_boundaries(c, static_cast<std::int64_t>(HostGroup::chunk_bytes(c.size())));
                check_queued_operations(c);
              },
              {.staged = true});
}

BOOST_AUTO_TEST_CASE(an_operation_queued_behind_one_that_failed_fails_for_that_reason) {
  // Rank 0's first operation ends early. Rank 1 is a step further in it, where the clocks would let rank 0's second
  // operation meet what rank 1 has never said.
  struct Block {
    std::vector<std::byte> bytes = std::vector<std::byte>(HostGroup::block_bytes(2) + 64);
    std::byte* begin() { return bytes.data() + (64 - reinterpret_cast<std::uintptr_t>(bytes.data()) % 64) % 64; }
  } blocks[2];
  bool interrupted = true;
  HostGroup first({blocks[0].begin(), blocks[1].begin()}, 0, nullptr, [&] { return interrupted; });
  HostGroup second({blocks[0].begin(), blocks[1].begin()}, 1, nullptr, {});
  std::vector<float> v(1 << 20);
  const auto count = static_cast<std::int64_t>(v.size());
  const Request q{
      .op = Op::all_reduce, .send = {v.data(), count, Dtype::f32}, .receive = {v.data(), count, Dtype::f32, {}}};
  BOOST_CHECK_THROW(first.run(q), Abandoned);
  first.abandon("the fault");
  BOOST_CHECK_THROW(second.run(q), Abandoned);
  interrupted = false;
  BOOST_CHECK_EXCEPTION(first.run(q), Abandoned, [](const Abandoned& e) {
    return std::string(e.what()) == "an earlier operation failed: the fault";
  });
}

BOOST_AUTO_TEST_CASE(sums_follow_the_tree_that_splits_at_the_largest_power_of_two) {
  // Next to 2^25, f32 loses a 2 and rounds a 3 up to 4, so every order of these has a sum of its own: 4, 0 and 2.
  const float big = 0x1p25f;
  const float v[] = {big, 1, 1, 2, 0, 0, -big};
  const void* sources[] = {&v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6]};
  const float tree = ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + v[6]);
  const float left_fold = (((((v[0] + v[1]) + v[2]) + v[3]) + v[4]) + v[5]) + v[6];
  const float halves = ((v[0] + v[1]) + v[2]) + ((v[3] + v[4]) + (v[5] + v[6]));
  BOOST_REQUIRE(tree != left_fold);
  BOOST_REQUIRE(tree != halves);
  float sum = 0;
  void* receive = &sum;
  reduce_tree({Dtype::f32, Dtype::f32}, sources, {&receive, 1}, 1);
  BOOST_TEST(sum == tree);
}

BOOST_AUTO_TEST_CASE(half_types_are_rounded_once) {
  // 1 + 3 * 2^-9 + ... : rounding each partial sum to bf16 (8 bits) would lose every small addend.
  std::vector<bf16> small(4, bf16(0x1p-9f));
  small[0] = bf16(1.0f);
  const void* sources[] = {&small[0], &small[1], &small[2], &small[3]};
  bf16 sum;
  void* receive = &sum;
  reduce_tree({Dtype::bf16, Dtype::bf16}, sources, {&receive, 1}, 1);
  BOOST_TEST(sum.bits == bf16(1.0f + 3 * 0x1p-9f).bits);
  BOOST_TEST(sum.bits != bf16(1.0f).bits);
}

BOOST_AUTO_TEST_CASE(faulty_requests_are_refused_by_name) {
  const auto c = make_self_communicator();
  std::vector<float> f(8);
  std::vector<std::int32_t> i(8);
  std::vector<std::uint16_t> u(8);
  const auto refused = [&](auto body) { return message_of(body); };
  BOOST_TEST(contains(refused([&] { c->all_reduce(buffer(i), Reduce::avg, stream); }), "avg of i32 isn't supported"));
  BOOST_TEST(contains(refused([&] { c->all_reduce(buffer(u), Reduce::sum, stream); }), "sum of u16 isn't supported"));
  BOOST_TEST(contains(refused([&] { c->broadcast(buffer(f), 1, stream); }), "root is 1, expected 0 to 0"));
  BOOST_TEST(contains(refused([&] { c->broadcast(buffer(f), -1, stream); }), "broadcast (self, rank 0 of 1)"));
  BOOST_TEST(contains(refused([&] { c->all_reduce(buffer(f), buffer(i), Reduce::sum, stream); }), "8 x f32"));
  BOOST_TEST(contains(refused([&] {
                        Buffer there = buffer(f);
                        there.device = {DeviceType::cuda, 1};
                        c->all_reduce(there, Reduce::sum, stream);
                      }),
                      "lies on cuda:1, expected cpu:0"));
  BOOST_TEST(contains(refused([&] {
                        Stream other({DeviceType::npu, 0});
                        c->all_reduce(buffer(f), Reduce::sum, other);
                      }),
                      "stream is on npu:0"));
  BOOST_TEST(contains(refused([&] {
                        c->all_reduce({reinterpret_cast<char*>(f.data()) + 1, 2, Dtype::f32, {}}, Reduce::sum, stream);
                      }),
                      "isn't aligned"));
  BOOST_TEST(contains(refused([&] { c->all_reduce({nullptr, 2, Dtype::f32, {}}, Reduce::sum, stream); }), "is null"));
  BOOST_TEST(contains(refused([&] { c->all_reduce({f.data(), -2, Dtype::f32, {}}, Reduce::sum, stream); }), "of -2"));
  BOOST_TEST(contains(refused([&] {
                        const ConstBuffer send(f.data(), 4, Dtype::f32);
                        c->all_reduce(send, {f.data() + 2, 4, Dtype::f32, {}}, Reduce::sum, stream);
                      }),
                      "overlap"));
}

BOOST_AUTO_TEST_CASE(scatter_and_gather_refuse_other_overlaps_than_in_place) {
  run_threads(2, [](Communicator& c) {
    std::vector<float> v(8);
    const auto wrong = v.data() + (1 - c.rank()) * 4;
    const Buffer whole{v.data(), 8, Dtype::f32, {}}, part{wrong, 4, Dtype::f32, {}};
    DUJIANG_CHECK(contains(message_of([&] { c.reduce_scatter(whole, part, Reduce::sum, stream); }), "overlap"), "rs");
    DUJIANG_CHECK(contains(message_of([&] { c.all_gather(part, whole, stream); }), "overlap"), "ag");
    DUJIANG_CHECK(contains(message_of([&] { c.all_gather(whole, whole, stream); }), "2 times send"), "count");
  });
}

BOOST_AUTO_TEST_CASE(ranks_that_disagree_are_named) {
  const auto message = message_of([] {
    run_threads(3, [](Communicator& c) {
      std::vector<float> v(c.rank() == 2 ? 5 : 4);
      c.all_reduce(buffer(v), Reduce::sum, stream).wait_host();
    });
  });
  BOOST_TEST(contains(message, "rank 0 asks for all_reduce sum of 4 x f32"), message);
  BOOST_TEST(contains(message, "rank 2 for all_reduce sum of 5 x f32"), message);
}

BOOST_AUTO_TEST_CASE(an_error_on_one_thread_ends_the_others) {
  const auto message = message_of([] {
    run_threads(4, [](Communicator& c) {
      if (c.rank() == 1) fail("rank 1 found a fault");
      c.barrier(stream).wait_host();
    });
  });
  BOOST_TEST(message == "rank 1 found a fault");
}

BOOST_AUTO_TEST_CASE(an_operation_s_error_is_thrown_at_every_wait) {
  Worker worker;
  const Work failed = worker.submit([] { fail("no luck"); });
  const Work copy = failed;
  BOOST_CHECK_THROW(failed.wait_host(), Error);
  BOOST_CHECK_THROW(copy.wait(stream), Error);
  BOOST_TEST(failed.query());
  const Work fine = worker.submit([] {});  // the thread goes on
  fine.wait_host();
}

BOOST_AUTO_TEST_CASE(operations_run_while_the_caller_goes_on) {
  run_threads(2, [](Communicator& c) {
    std::vector<float> v(4, 1.0f);
    std::vector<float> w(4, 1.0f);
    if (c.rank() == 0) {
      const Work first = c.all_reduce(buffer(v), Reduce::sum, stream);  // rank 1 comes only after this has returned
      DUJIANG_CHECK(!first.query(), "an all_reduce was complete before the other rank had come");
      const Work second = c.all_reduce(buffer(w), Reduce::sum, stream);
      second.wait_host();
      DUJIANG_CHECK(first.query(), "operations ran out of order");
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      c.all_reduce(buffer(v), Reduce::sum, stream);
      c.all_reduce(buffer(w), Reduce::sum, stream).wait_host();
    }
    DUJIANG_CHECK(v[3] == 2 && w[0] == 2, "sums are {} and {}", v[3], w[0]);
  });
}

BOOST_AUTO_TEST_CASE(calls_bytes_and_time_are_counted) {
  run_threads(2, [](Communicator& c) {
    std::vector<float> v(1000);
    c.all_reduce(buffer(v), Reduce::sum, stream).wait_host();
    c.all_reduce(buffer(v), Reduce::sum, stream).wait_host();
    c.reduce_scatter(buffer(v), {v.data() + c.rank() * 500, 500, Dtype::f32, {}}, Reduce::sum, stream).wait_host();
    const OpStats sums = c.stats(Op::all_reduce), scatters = c.stats(Op::reduce_scatter);
    DUJIANG_CHECK(sums.calls == 2 && sums.bytes == 8000 && sums.seconds > 0, "{} calls, {} bytes, {} s", sums.calls,
                  sums.bytes, sums.seconds);
    DUJIANG_CHECK(scatters.calls == 1 && scatters.bytes == 4000, "{} bytes", scatters.bytes);
    DUJIANG_CHECK(c.stats(Op::barrier).calls == 0, "a barrier was counted");
  });
}

BOOST_AUTO_TEST_CASE(a_process_started_alone_leaves_mpi_untouched) {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "SLURM_STEP_ID"}) unsetenv(name);
  const auto c = make_communicator({.transport = "auto"});
  BOOST_TEST(c->transport() == "self");
  BOOST_TEST((c->size() == 1 && c->rank() == 0 && c->local_rank() == 0 && c->local_size() == 1));
  int initialized = 1;
  MPI_Initialized(&initialized);
  BOOST_TEST(initialized == 0);
}

BOOST_AUTO_TEST_CASE(launchers_are_recognised_by_their_environment) {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "SLURM_STEP_ID"}) unsetenv(name);
  BOOST_CHECK_THROW(make_communicator({.transport = "nccl"}), UserError);
  setenv("SLURM_STEP_ID", "0", 1);
  setenv("SLURM_PROCID", "1", 1);
  setenv("SLURM_STEP_NUM_TASKS", "4", 1);
  BOOST_CHECK_THROW(detect_launch(), UserError);
  setenv("PMIX_RANK", "1", 1);
  BOOST_TEST(detect_launch().launcher == "srun");
  BOOST_TEST(detect_launch().size == 4);
  BOOST_CHECK_THROW(make_communicator({.transport = "self"}), UserError);
  setenv("PMIX_RANK", "one", 1);
  BOOST_CHECK_THROW(detect_launch(), UserError);
  for (const char* name : {"PMIX_RANK", "SLURM_STEP_ID", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"}) unsetenv(name);
  BOOST_TEST(detect_launch().launcher.empty());
}

BOOST_AUTO_TEST_CASE(a_body_s_error_becomes_its_exit_status) {
  BOOST_TEST(run_job([] { return 0; }) == 0);
  BOOST_TEST(run_job([]() -> int { fail("expected by this test"); }) == 1);
  BOOST_TEST(run_job([]() -> int { fail_user("expected by this test"); }) == 2);
}
