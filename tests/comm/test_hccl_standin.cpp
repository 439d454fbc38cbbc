// The rules of HCCL and ACL, as the stand-in enforces them: its C functions called directly. Ranks are threads here.

#include <boost/test/unit_test.hpp>
#include <chrono>
#include <functional>
#include <thread>

#include "comm/hccl/hccl_library.h"
#include "framework/base/check.h"

using namespace dujiang;
using namespace dujiang::hccl;

namespace {

const Library& api() {
  static const auto library = [] {
    auto loaded = load_library();
    loaded->aclInit(nullptr);
    return loaded;
  }();
  return *library;
}

// What one rank has.
struct Rank {
  std::uint32_t rank = 0, size = 1;
  HcclComm comm = nullptr;
  aclrtStream stream = nullptr;
  float* memory = nullptr;  // 1024 of the device

  void open(std::uint32_t of, std::uint32_t me, const HcclRootInfo& info) {
    rank = me;
    size = of;
    api().aclrtSetDevice(static_cast<int>(me));
    DUJIANG_CHECK(api().HcclCommInitRootInfo(of, &info, me, &comm) == HCCL_SUCCESS, "no communicator{}",
                  api().last_words());
    void* p = nullptr;
    DUJIANG_CHECK(api().aclrtCreateStream(&stream) == 0 && api().aclrtMalloc(&p, 4096, 0) == 0, "no stream or memory");
    memory = static_cast<float*>(p);
  }
  ~Rank() {
    if (comm != nullptr) api().HcclCommDestroy(comm);
    if (stream != nullptr) api().aclrtDestroyStream(stream);
    if (memory != nullptr) api().aclrtFree(memory);
  }
  aclError synchronize(int ms = 20'000) const { return api().aclrtSynchronizeStreamWithTimeout(stream, ms); }
};

// Runs the body on threads as ranks and gives back what each returned.
template <class Result>
std::vector<Result> on_ranks(std::uint32_t size, const std::function<Result(Rank&)>& body) {
  api().aclrtSetDevice(0);
  HcclRootInfo info;
  BOOST_REQUIRE(api().HcclGetRootInfo(&info) == HCCL_SUCCESS);
  std::vector<Result> results(size);
  std::vector<std::thread> threads;
  for (std::uint32_t r = 0; r < size; ++r) {
    threads.emplace_back([&, r] {
      Rank rank;
      rank.open(size, r, info);
      results[r] = body(rank);
    });
  }
  for (auto& thread : threads) thread.join();
  return results;
}

HcclResult alone(const std::function<HcclResult(Rank&)>& body) {
  return on_ranks<HcclResult>(1, body).at(0);
}

constexpr auto f32 = HCCL_DATA_TYPE_FP32;
constexpr auto sum = HCCL_REDUCE_SUM;

}  // namespace

BOOST_AUTO_TEST_CASE(a_null_stream_buffer_or_communicator_is_refused) {
  BOOST_TEST(alone([](Rank& r) { return api().HcclAllReduce(r.memory, r.memory, 8, f32, sum, r.comm, nullptr); }) ==
             HCCL_E_PTR);
  BOOST_TEST(alone([](Rank& r) { return api().HcclAllReduce(nullptr, r.memory, 8, f32, sum, r.comm, r.stream); }) ==
             HCCL_E_PTR);
  BOOST_TEST(alone([](Rank& r) { return api().HcclAllReduce(r.memory, r.memory, 8, f32, sum, nullptr, r.stream); }) ==
             HCCL_E_PTR);
}

BOOST_AUTO_TEST_CASE(a_count_of_0_succeeds_before_pointers_are_looked_at) {
  BOOST_TEST(alone([](Rank& r) { return api().HcclAllReduce(nullptr, nullptr, 0, f32, sum, r.comm, nullptr); }) ==
             HCCL_SUCCESS);
  BOOST_TEST(alone([](Rank& r) { return api().HcclBroadcast(nullptr, 0, f32, 9, r.comm, nullptr); }) == HCCL_SUCCESS);
}

BOOST_AUTO_TEST_CASE(a_count_too_large_and_a_root_that_is_no_rank_are_refused) {
  BOOST_TEST(alone([](Rank& r) {
               return api().HcclAllReduce(r.memory, r.memory, hccl_max_count + 1, f32, sum, r.comm, r.stream);
             }) == HCCL_E_PARA);
  BOOST_TEST(alone([](Rank& r) { return api().HcclBroadcast(r.memory, 8, f32, 1, r.comm, r.stream); }) == HCCL_E_PARA);
}

BOOST_AUTO_TEST_CASE(reductions_that_hccl_has_not_are_refused) {
  for (const auto type : {HCCL_DATA_TYPE_UINT8, HCCL_DATA_TYPE_UINT16, HCCL_DATA_TYPE_UINT32, HCCL_DATA_TYPE_FP64}) {
    BOOST_TEST(alone([&](Rank& r) {
                 return api().HcclAllReduce(r.memory, r.memory, 8, type, sum, r.comm, r.stream);
               }) == HCCL_E_NOT_SUPPORT);
    BOOST_TEST(alone([&](Rank& r) {
                 return api().HcclReduceScatter(r.memory, r.memory, 8, type, sum, r.comm, r.stream);
               }) == HCCL_E_NOT_SUPPORT);
  }
  BOOST_TEST(alone([](Rank& r) {
               return api().HcclAllReduce(r.memory, r.memory, 8, HCCL_DATA_TYPE_BFP16, HCCL_REDUCE_PROD, r.comm,
                                          r.stream);
             }) == HCCL_E_NOT_SUPPORT);
}

BOOST_AUTO_TEST_CASE(memory_of_the_host_is_refused) {
  std::vector<float> host(8);
  BOOST_TEST(alone([&](Rank& r) {
               return api().HcclAllReduce(host.data(), r.memory, 8, f32, sum, r.comm, r.stream);
             }) == HCCL_E_PARA);
  BOOST_TEST(alone([&](Rank& r) {  // one element beyond the allocation
               return api().HcclAllReduce(r.memory, r.memory, 1025, f32, sum, r.comm, r.stream);
             }) == HCCL_E_PARA);
}

BOOST_AUTO_TEST_CASE(all_to_all_in_place_is_refused) {
  const std::uint64_t count = 1, offset = 0;
  BOOST_TEST(alone([&](Rank& r) {
               return api().HcclAlltoAllV(r.memory, &count, &offset, f32, r.memory, &count, &offset, f32, r.comm,
                                          r.stream);
             }) == HCCL_E_PARA);
}

BOOST_AUTO_TEST_CASE(operations_are_asynchronous_and_in_the_streams_order) {
  const auto sums = on_ranks<float>(2, [](Rank& r) {
    r.memory[0] = static_cast<float>(r.rank + 1);
    // The first use connects; the second is only queued: rank 1 comes late to it.
    DUJIANG_CHECK(api().HcclAllReduce(r.memory, r.memory, 1, f32, sum, r.comm, r.stream) == HCCL_SUCCESS, "first");
    DUJIANG_CHECK(r.synchronize() == 0, "first");
    if (r.rank == 1) std::this_thread::sleep_for(std::chrono::milliseconds(100));
    DUJIANG_CHECK(api().HcclAllReduce(r.memory, r.memory, 1, f32, sum, r.comm, r.stream) == HCCL_SUCCESS, "second");
    if (r.rank == 0) {
      DUJIANG_CHECK(r.synchronize(1) == acl_stream_synchronize_timeout, "rank 0 did not wait for rank 1");
      DUJIANG_CHECK(api().HcclCommDestroy(r.comm) == HCCL_E_AGAIN, "a busy communicator was destroyed");
    }
    DUJIANG_CHECK(api().HcclAllReduce(r.memory, r.memory, 1, f32, sum, r.comm, r.stream) == HCCL_SUCCESS, "third");
    DUJIANG_CHECK(r.synchronize() == 0, "third");
    return r.memory[0];
  });
  BOOST_TEST(sums[0] == 12);
  BOOST_TEST(sums[1] == 12);
}

BOOST_AUTO_TEST_CASE(arguments_that_differ_are_found_at_the_first_use) {
  const auto results = on_ranks<HcclResult>(
      2, [](Rank& r) { return api().HcclAllReduce(r.memory, r.memory, 8 + r.rank, f32, sum, r.comm, r.stream); });
  BOOST_TEST(results[0] == HCCL_E_PARA);
  BOOST_TEST(results[1] == HCCL_E_PARA);
}

BOOST_AUTO_TEST_CASE(sub_communicators_are_made_of_the_global_one_only) {
  const auto results = on_ranks<int>(2, [](Rank& r) {
    HcclCommConfig config;
    std::uint32_t both[] = {1, 0}, one[] = {r.rank};
    HcclComm swapped = nullptr, nested = nullptr, none = &r;
    DUJIANG_CHECK(api().HcclCreateSubCommConfig(&r.comm, 2, both, 7, 1 - r.rank, &config, &swapped) == HCCL_SUCCESS,
                  "no sub-communicator{}", api().last_words());
    const HcclResult inner = api().HcclCreateSubCommConfig(&swapped, 1, one, 8, 0, &config, &nested);
    const HcclResult left_out = api().HcclCreateSubCommConfig(&r.comm, 0, nullptr, hccl_no_sub_comm, 0, &config, &none);
    const HcclResult wrong_place = api().HcclCreateSubCommConfig(&r.comm, 2, both, 9, r.rank, &config, &nested);
    std::uint32_t place = 9;
    api().HcclGetRankId(swapped, &place);
    const bool right = inner == HCCL_E_NOT_SUPPORT && left_out == HCCL_SUCCESS && none == nullptr &&
                       wrong_place == HCCL_E_PARA && place == 1 - r.rank;
    api().HcclCommDestroy(swapped);
    return right ? 1 : 0;
  });
  BOOST_TEST(results[0] + results[1] == 2);
}

BOOST_AUTO_TEST_CASE(a_root_info_must_travel_whole) {
  api().aclrtSetDevice(0);
  HcclRootInfo info;
  BOOST_REQUIRE(api().HcclGetRootInfo(&info) == HCCL_SUCCESS);
  HcclRootInfo cut{};
  std::copy_n(info.internal, 128, cut.internal);
  HcclComm comm = nullptr;
  BOOST_TEST(api().HcclCommInitRootInfo(1, &cut, 0, &comm) == HCCL_E_PARA);
  BOOST_TEST(api().HcclCommInitRootInfo(1, &info, 1, &comm) == HCCL_E_PARA);
  BOOST_REQUIRE(api().HcclCommInitRootInfo(1, &info, 0, &comm) == HCCL_SUCCESS);
  BOOST_TEST(api().HcclCommDestroy(comm) == HCCL_SUCCESS);
  BOOST_TEST(api().HcclCommInitRootInfo(1, &info, 0, &comm) != HCCL_SUCCESS);  // used up
}

BOOST_AUTO_TEST_CASE(a_thread_without_a_device_is_refused) {
  aclError code = 0;
  std::string words;
  (void)api();
  std::thread([&] {
    void* stream = nullptr;
    code = api().aclrtCreateStream(&stream);
    words = api().last_words();
  }).join();
  BOOST_TEST(code == 107002);
  BOOST_TEST(words.find("no device") != std::string::npos);
  BOOST_TEST(api().aclInit(nullptr) == acl_repeated_init);
}
