#include "comm/hccl/hccl_join.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <future>
#include <thread>

#include "comm/hccl/hccl_environment.h"
#include "comm/hccl/rank_table.h"
#include "framework/base/check.h"

namespace dujiang::comm {

using namespace hccl;
using namespace std::chrono_literals;

namespace {

constexpr const char* failed_key = "hccl/world/failed";

void open_device(const Library& library, int device, const std::string& host) {
  const aclError initialised = library.aclInit(nullptr);
  if (initialised != acl_success && initialised != acl_repeated_init) {
    fail_user("aclInit failed with ACL error {}{}: is the driver loaded, and may this user open /dev/davinci*?",
              initialised, library.last_words());
  }
  std::uint32_t count = 0;
  if (library.aclrtGetDeviceCount(&count) != acl_success) count = 0;
  if (device < 0 || static_cast<std::uint32_t>(device) >= count) {
    const char* visible = std::getenv("ASCEND_RT_VISIBLE_DEVICES");
    fail_user(
        "it needs NPU {}, but {} has {} (ASCEND_RT_VISIBLE_DEVICES is {}): start at most as many ranks per host as it "
        "has NPUs",
        device, host, count, visible != nullptr ? visible : "not set");
  }
  library.use_device(device);
}

// The root's info, or its reason for having none.
HcclRootInfo share_root_info(const Library& library, Store* store, int rank, int size, Deadline deadline) {
  constexpr const char* key = "hccl/world/root";
  HcclRootInfo info{};
  if (rank == 0) {
    const HcclResult result = library.HcclGetRootInfo(&info);
    if (result != HCCL_SUCCESS) {
      const std::string why = fmt::format(
          "comm.transport hccl: HcclGetRootInfo failed on rank 0 with {}{}; check HCCL_IF_IP and "
          "HCCL_SOCKET_IFNAME, and that the ports from HCCL_IF_BASE_PORT (60000) are free",
          describe(result), library.last_words());
      if (size > 1) store->set(key, why);
      fail_user("{}", why);
    }
    if (size > 1) store->set(key, std::string_view(info.internal, sizeof info.internal));
    return info;
  }
  const std::string value = store->wait(key, "rank 0", deadline);
  if (value.size() != sizeof info.internal) fail_user("{}", value);
  std::memcpy(info.internal, value.data(), sizeof info.internal);
  return info;
}

// Another rank's reason to give up, if it has one.
std::string reason_elsewhere(Store& store) {
  if (const auto told = store.get(failed_key)) return *told;
  const auto gone = store.gone();
  return gone.empty() ? ""
                      : fmt::format("comm.transport hccl: rank {} ended while the devices connected", gone.front());
}

// Runs a call of HCCL that may block for minutes, but not beyond the deadline, nor when another rank has given up. A
// call that doesn't return keeps its thread until the process ends, which is soon.
HcclComm call_within(const std::shared_ptr<const Library>& library, Store* store, int rank, int device,
                     Deadline deadline, const char* name, const std::function<HcclResult(HcclComm*)>& call) {
  struct Outcome {
    HcclResult result = HCCL_SUCCESS;
    HcclComm comm = nullptr;
    std::string words;
  };
  auto promise = std::make_shared<std::promise<Outcome>>();
  auto future = promise->get_future();
  std::thread([promise, library, device, call] {
    try {
      library->use_device(device);
      Outcome outcome;
      outcome.result = call(&outcome.comm);
      if (outcome.result != HCCL_SUCCESS) outcome.words = library->last_words();
      promise->set_value(outcome);
    } catch (...) {
      promise->set_exception(std::current_exception());
    }
  }).detach();
  while (future.wait_until(std::min(deadline, Flight::Clock::now() + 100ms)) != std::future_status::ready) {
    if (store != nullptr) {
      const std::string reason = reason_elsewhere(*store);
      if (!reason.empty()) fail_user("{}", reason);
    }
    if (Flight::Clock::now() < deadline) continue;
    fail_user(
        "comm.transport hccl: rank {}: {} has not returned within comm.bootstrap_timeout, although all ranks have "
        "come: can the hosts reach one another on the interface that HCCL uses (HCCL_SOCKET_IFNAME, HCCL_IF_IP), "
        "and are its ports free?",
        rank, name);
  }
  const Outcome outcome = future.get();
  if (outcome.result != HCCL_SUCCESS) {
    const std::string why = fmt::format("comm.transport hccl: rank {}: {} failed with {}{}", rank, name,
                                        describe(outcome.result), outcome.words);
    if (store != nullptr) store->set(failed_key, why);
    fail_user("{}", why);
  }
  return outcome.comm;
}

void check_rank_table(const RankTable& table, int rank, int size) {
  if (static_cast<int>(table.ranks.size()) == size) return;
  fail_user(
      "{}: the rank table has {} ranks, but rank {} was started as one of {}: use a table for this job, or unset "
      "RANK_TABLE_FILE",
      table.path, table.ranks.size(), rank, size);
}

std::uint64_t id_of(std::string_view name) {
  std::uint64_t h = 0xcbf29ce484222325ull;
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return h == hccl_no_sub_comm ? 1 : h;
}

}  // namespace

std::shared_ptr<Handle> join_world(const std::shared_ptr<Watchdog>& watchdog, int rank, int size, int device,
                                   const JoinLimits& limits, std::vector<Seat>& seats) {
  DUJIANG_CHECK(size == 1 || watchdog, "hccl: {} ranks without a watchdog", size);
  const char* table_path = std::getenv("RANK_TABLE_FILE");
  const bool by_table = table_path != nullptr && *table_path != '\0';
  std::shared_ptr<const Library> library;
  const Seat mine = take_seat([&](Seat& seat) {
    seat.device = fmt::format("NPU {}", device);
    check_hccl_environment(limits.bootstrap_timeout);
    if (by_table) check_rank_table(read_rank_table(table_path), rank, size);
    library = load_library();
    open_device(*library, device, seat.host);
  });
  Store* store = size > 1 ? watchdog->store().get() : nullptr;
  const Deadline deadline = limits.deadline;
  seats = exchange_seats("hccl", store, rank, size, mine, deadline);

  HcclComm comm = nullptr;
  const auto me = static_cast<std::uint32_t>(rank), all = static_cast<std::uint32_t>(size);
  if (by_table) {
    comm = call_within(library, store, rank, device, deadline, "HcclCommInitClusterInfo",
                       [library, path = std::string(table_path), me](HcclComm* out) {
                         return library->HcclCommInitClusterInfo(path.c_str(), me, out);
                       });
  } else {
    const HcclRootInfo info = share_root_info(*library, store, rank, size, deadline);
    comm = call_within(
        library, store, rank, device, deadline, "HcclCommInitRootInfo",
        [library, info, me, all](HcclComm* out) { return library->HcclCommInitRootInfo(all, &info, me, out); });
  }
  auto handle = std::make_shared<Handle>(library, comm, device);
  std::uint32_t seen_size = 0, seen_rank = 0;
  const bool known = library->HcclGetRankSize(comm, &seen_size) == HCCL_SUCCESS &&
                     library->HcclGetRankId(comm, &seen_rank) == HCCL_SUCCESS;
  if (!known || seen_size != all || seen_rank != me) {
    fail_user("comm.transport hccl: this is rank {} of {}, but HCCL's communicator says rank {} of {}", rank, size,
              seen_rank, seen_size);
  }
  return handle;
}

std::shared_ptr<Handle> make_sub_communicator(const std::shared_ptr<Handle>& global, const Flight* child) {
  const Library& library = global->library();
  const std::lock_guard lock(library.calls);
  HcclComm parent = global->get(), comm = nullptr;
  HcclCommConfig config;
  if (child == nullptr) {
    const HcclResult result = library.HcclCreateSubCommConfig(&parent, 0, nullptr, hccl_no_sub_comm, 0, &config, &comm);
    DUJIANG_CHECK(result == HCCL_SUCCESS, "split (hccl), as a rank that is left out: {}{}", describe(result),
                  library.last_words());
    return nullptr;
  }
  std::vector<std::uint32_t> ranks;
  for (const int r : child->members()) ranks.push_back(static_cast<std::uint32_t>(r));
  const auto rank = static_cast<std::uint32_t>(child->rank());
  config.worldRankId = ranks[rank];
  const HcclResult result = library.HcclCreateSubCommConfig(&parent, static_cast<std::uint32_t>(ranks.size()),
                                                            ranks.data(), id_of(child->name()), rank, &config, &comm);
  DUJIANG_CHECK(result == HCCL_SUCCESS, "split (hccl) into {}, rank {} of {}: {}{}", child->name(), rank, ranks.size(),
                describe(result), library.last_words());
  return std::make_shared<Handle>(global->shared_library(), comm, global->device());
}

}  // namespace dujiang::comm
