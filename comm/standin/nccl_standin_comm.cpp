// The functions of NCCL's stand-in that make and end communicators: see nccl_standin.cpp.

#include "comm/standin/nccl_standin.h"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <vector>

#include "comm/host/host_group.h"

using namespace dujiang;
using namespace dujiang::standin;

namespace {

constexpr auto for_ever = std::chrono::hours(24);

std::mutex error_mutex;
std::string last_error;
thread_local std::string shown_error;

// Every rank's colour and key.
std::vector<int> exchange_colors(NcclCore& core, int color, int key) {
  const int mine[2] = {color, key};
  std::vector<int> all(2 * static_cast<std::size_t>(core.size));
  const auto turn = core.group->next_turn();
  core.group->run({.op = comm::Op::all_gather,
                   .send = {mine, 2, Dtype::i32, {}},
                   .receive = {all.data(), static_cast<std::int64_t>(all.size()), Dtype::i32, {}}},
                  *turn, [&core] { return core.interrupted(); });
  return all;
}

}  // namespace

ncclResult_t dujiang::standin::refuse(ncclResult_t result, const std::string& why) {
  const std::lock_guard lock(error_mutex);
  last_error = why;
  return result;
}

ncclResult_t dujiang::standin::at_call(const char* function, std::optional<CudaFault>& fault) {
  fault = cuda_fault(function);
  if (!fault || fault->kind != CudaFault::Kind::fail) return ncclSuccess;
  return refuse(static_cast<ncclResult_t>(fault->code), std::string("told to fail ") + function);
}

ncclResult_t ncclComm::ready() const {
  const auto state = core->now();
  if (state != ncclInProgress) return state;
  return refuse(ncclInvalidArgument, "Attempt to use communicator before the previous operation returned ncclSuccess");
}

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  std::optional<CudaFault> fault;
  if (const auto result = at_call(__func__, fault); result != ncclSuccess) return result;
  const char* rank = std::getenv("RANK");
  const char* said = std::getenv(("DUJIANG_STANDIN_NCCL_VERSION_" + std::string(rank != nullptr ? rank : "0")).c_str());
  *version = said != nullptr ? std::atoi(said) : NCCL_VERSION_CODE;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  constexpr const char* names[] = {"no error",
                                   "unhandled cuda error",
                                   "unhandled system error",
                                   "internal error",
                                   "invalid argument",
                                   "invalid usage",
                                   "remote process exited or there was a network error",
                                   "NCCL operation in progress"};
  return result >= 0 && result < ncclNumResults ? names[result] : "unknown result code";
}

const char* ncclGetLastError(ncclComm_t) {
  const std::lock_guard lock(error_mutex);
  shown_error = last_error;
  return shown_error.c_str();
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  std::optional<CudaFault> fault;
  if (const auto result = at_call(__func__, fault); result != ncclSuccess) return result;
  static_assert(RankGroup::max_id_bytes <= sizeof id->internal);
  const std::string text = RankGroup::make_id();
  std::memset(id->internal, 0, sizeof id->internal);
  std::memcpy(id->internal, text.c_str(), text.size());
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int size, ncclUniqueId id, int rank, ncclConfig_t* config) {
  std::optional<CudaFault> fault;
  if (const auto result = at_call(__func__, fault); result != ncclSuccess) return result;
  if (config == nullptr || config->magic != 0xcafebeef || config->blocking != 0) {
    return refuse(ncclInvalidArgument, "the stand-in takes non-blocking communicators only");
  }
  *comm = new ncclComm;
  NcclCore& core = *(*comm)->core;
  core.rank = rank;
  core.size = size;
  core.device = cuda_device();
  const std::string text(id.internal, strnlen(id.internal, sizeof id.internal));
  return (*comm)->begin(fault, [core = (*comm)->core, text] {
    core->group = std::make_unique<RankGroup>(text, core->rank, core->size, std::chrono::steady_clock::now() + for_ever,
                                              [c = core.get()] { return c->interrupted(); });
    core->state = ncclSuccess;
  });
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  *state = comm->core->now();
  return ncclSuccess;
}

ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t* child, ncclConfig_t*) {
  std::optional<CudaFault> fault;
  if (const auto result = at_call(__func__, fault); result != ncclSuccess) return result;
  if (const auto result = comm->ready(); result != ncclSuccess) return result;
  *child = nullptr;
  const auto tag = static_cast<std::uint64_t>(++comm->splits);
  return comm->begin(fault, [core = comm->core, child, color, key, tag] {
    const auto all = exchange_colors(*core, color, key);
    if (color >= 0) {
      const auto members = comm::split_members(color, all);
      auto made = std::make_unique<ncclComm>();
      made->core->size = static_cast<int>(members.size());
      made->core->device = core->device;
      made->begin(std::nullopt, [core, mine = made->core, members, tag, color] {
        const Interrupted stopped = [&] { return core->interrupted() || mine->interrupted(); };
        mine->group = core->group->subgroup(members, tag * 1000 + static_cast<std::uint64_t>(color),
                                            std::chrono::steady_clock::now() + for_ever, stopped);
        mine->rank = mine->group->rank();
        mine->state = ncclSuccess;
      });
      *child = made.release();
    }
    core->state = ncclSuccess;
  });
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  std::optional<CudaFault> fault;
  if (const auto result = at_call(__func__, fault); result != ncclSuccess) return result;
  if (const auto result = comm->ready(); result != ncclSuccess) return result;
  if (std::exchange(comm->finalized, true)) return refuse(ncclInvalidArgument, "finalized twice");
  return comm->begin(fault, [core = comm->core] {
    core->wait_for_operations();
    core->state = ncclSuccess;
  });
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  std::optional<CudaFault> fault;
  if (const auto result = at_call(__func__, fault); result != ncclSuccess) return result;
  if (const auto result = comm->ready(); result != ncclSuccess) return result;
  comm->core->wait_for_operations();
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  std::optional<CudaFault> fault;
  if (const auto result = at_call(__func__, fault); result != ncclSuccess) return result;
  comm->core->aborted = true;
  if (fault) std::this_thread::sleep_for(for_ever);
  comm->join();
  comm->core->wait_for_operations();
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclMemAlloc(void** memory, std::size_t bytes) {
  std::optional<CudaFault> fault;
  if (const auto result = at_call(__func__, fault); result != ncclSuccess) return result;
  *memory = cuda_memory().allocate(bytes);
  return *memory != nullptr ? ncclSuccess : refuse(ncclUnhandledCudaError, "Failed to allocate: out of memory");
}

ncclResult_t ncclMemFree(void* memory) {
  std::optional<CudaFault> fault;
  if (const auto result = at_call(__func__, fault); result != ncclSuccess) return result;
  return cuda_memory().free(memory) ? ncclSuccess : refuse(ncclInvalidArgument, "freed what was not allocated");
}

ncclResult_t ncclCommRegister(const ncclComm_t comm, void* memory, std::size_t bytes, void** handle) {
  std::optional<CudaFault> fault;
  if (const auto result = at_call(__func__, fault); result != ncclSuccess) return result;
  if (const auto result = comm->ready(); result != ncclSuccess) return result;
  if (!cuda_memory().contains(memory, bytes)) return refuse(ncclInvalidArgument, "registered what was not allocated");
  *handle = memory;
  comm->registered.insert(memory);
  return ncclSuccess;
}

ncclResult_t ncclCommDeregister(const ncclComm_t comm, void* handle) {
  std::optional<CudaFault> fault;
  if (const auto result = at_call(__func__, fault); result != ncclSuccess) return result;
  return comm->registered.erase(handle) == 1 ? ncclSuccess : refuse(ncclInvalidArgument, "not registered");
}

}  // extern "C"
