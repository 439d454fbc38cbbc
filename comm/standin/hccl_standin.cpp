// libdujiang_hccl_standin.so: HCCL's and ACL's C ABI on host memory, for machines without an NPU. Loaded by the
// unchanged hccl transport through DUJIANG_HCCL_LIBRARY and DUJIANG_ACL_LIBRARY; built with the tests only.
//
// Asynchronous as the real one: calls queue work on a stream's thread and return; ranks meet when it runs. Sums follow
// the tree of communicator.h, so that tests can compare bits. What it refuses, as HCCL does:
//   a null stream, communicator or buffer -> PTR; count 0 -> SUCCESS, before pointers are looked at; a count above
//   0x7FFFFFFFF, a root or peer that isn't a rank -> PARA; reductions on unsigned integers and f64 and PROD on i16 and
//   bf16 -> NOT_SUPPORT; AlltoAll(V) in place -> PARA; memory that isn't the device's -> PARA (the real one faults);
//   sub-communicators of anything but the global one -> NOT_SUPPORT; Destroy while operations run -> AGAIN; a root info
//   used twice; a thread without a device.
//   At its first use on a communicator an operation waits on the host until all ranks have called it (TIMEOUT after
//   HCCL_CONNECT_TIMEOUT), and arguments that differ are found (PARA). Later a rank that is missing is a hang, of which
//   GetCommAsyncError says nothing.
//
// Environment
//   DUJIANG_STANDIN_FAULTS      what goes wrong, as in faults.h, for the functions of both libraries by their C names
//   DUJIANG_STANDIN_DEVICES     8
//   DUJIANG_STANDIN_MEMORY      bytes of device memory; unlimited
//   DUJIANG_STANDIN_CONNECT_MS  instead of HCCL_CONNECT_TIMEOUT, in milliseconds

#include <csignal>
#include <cstring>
#include <map>
#include <set>
#include <thread>

#include "comm/hccl/rank_table.h"
#include "comm/standin/cluster_meeting.h"
#include "comm/standin/hccl_machine.h"
#include "comm/standin/rank_group.h"
#include "framework/base/check.h"

namespace dujiang::hccl {
namespace {

using comm::Op;
using comm::P2p;
using comm::Reduce;
using comm::Request;
using standin::Fault;
using standin::HostStream;
using standin::RankGroup;
using Clock = std::chrono::steady_clock;

struct Comm {
  std::unique_ptr<RankGroup> group;
  std::string name;
  bool global = false;
  std::atomic<int> busy{0};
  std::atomic<int> async{HCCL_SUCCESS};
  std::mutex mutex;
  std::set<Op> used;
};

std::mutex comms_mutex;
std::map<void*, std::shared_ptr<Comm>>& comms() {
  static auto& instance = *new std::map<void*, std::shared_ptr<Comm>>;
  return instance;
}

std::shared_ptr<Comm> find(HcclComm handle) {
  const std::lock_guard lock(comms_mutex);
  const auto at = comms().find(handle);
  return at != comms().end() ? at->second : nullptr;
}

HcclComm add(std::shared_ptr<Comm> comm) {
  const std::lock_guard lock(comms_mutex);
  void* handle = comm.get();
  comms()[handle] = std::move(comm);
  return handle;
}

HcclResult refuse(HcclResult code, const std::string& why) {
  Machine::instance().say(why);
  return code;
}

std::optional<Dtype> dtype_of(HcclDataType type) {
  switch (type) {
    case HCCL_DATA_TYPE_INT32:
      return Dtype::i32;
    case HCCL_DATA_TYPE_FP16:
      return Dtype::f16;
    case HCCL_DATA_TYPE_FP32:
      return Dtype::f32;
    case HCCL_DATA_TYPE_INT64:
      return Dtype::i64;
    case HCCL_DATA_TYPE_UINT64:
      return Dtype::u64;
    case HCCL_DATA_TYPE_INT8:
    case HCCL_DATA_TYPE_UINT8:
      return Dtype::u8;
    case HCCL_DATA_TYPE_INT16:
    case HCCL_DATA_TYPE_UINT16:
      return Dtype::u16;
    case HCCL_DATA_TYPE_UINT32:
      return Dtype::u32;
    case HCCL_DATA_TYPE_FP64:
      return Dtype::f64;
    case HCCL_DATA_TYPE_BFP16:
      return Dtype::bf16;
  }
  return std::nullopt;
}

// A checked call, step by step: the first refusal stays.
struct Call {
  Call(const char* function, Op op, HcclComm handle, aclrtStream stream_handle) : function(function) {
    request.op = op;
    result = static_cast<HcclResult>(injected(function, &fault));
    if (result != HCCL_SUCCESS) return;
    comm = find(handle);
    stream = Machine::instance().stream(stream_handle);
    if (stream_handle == nullptr) set(HCCL_E_PTR, "the stream is null");
    if (handle == nullptr) set(HCCL_E_PTR, "the communicator is null");
    if (handle != nullptr && !comm) set(HCCL_E_PARA, "there is no such communicator");
    if (stream_handle != nullptr && !stream) set(HCCL_E_PARA, "there is no such stream");
    if (Machine::instance().ready() != acl_success) set(HCCL_E_RUNTIME, "this thread has no device");
  }
  void set(HcclResult code, const std::string& why) {
    if (result == HCCL_SUCCESS) result = refuse(code, fmt::format("{}: {}", function, why));
  }
  void check_count(std::uint64_t count) {
    if (count > hccl_max_count) set(HCCL_E_PARA, fmt::format("a count of {} is too large", count));
  }
  void check_rank(std::uint32_t rank) {
    if (result == HCCL_SUCCESS && rank >= static_cast<std::uint32_t>(comm->group->size())) {
      set(HCCL_E_PARA, fmt::format("{} is no rank", rank));
    }
  }
  void check_buffer(const void* data, std::uint64_t count, Dtype dtype) {
    if (result != HCCL_SUCCESS || count == 0) return;
    if (data == nullptr) return set(HCCL_E_PTR, "a buffer is null");
    if (reinterpret_cast<std::uintptr_t>(data) % size_of(dtype) != 0) set(HCCL_E_PARA, "a buffer isn't aligned");
    if (!Machine::instance().memory.contains(data, count * size_of(dtype))) {
      set(HCCL_E_PARA, "a buffer isn't in the device's memory");
    }
  }
  Dtype check_type(HcclDataType type) {
    const auto dtype = dtype_of(type);
    if (!dtype) set(HCCL_E_NOT_SUPPORT, fmt::format("data type {}", static_cast<int>(type)));
    return dtype.value_or(Dtype::u8);
  }
  Reduce check_reduction(HcclDataType type, HcclReduceOp op) {
    const bool known = type == HCCL_DATA_TYPE_INT8 || type == HCCL_DATA_TYPE_INT16 || type == HCCL_DATA_TYPE_INT32 ||
                       type == HCCL_DATA_TYPE_INT64 || type == HCCL_DATA_TYPE_FP16 || type == HCCL_DATA_TYPE_FP32 ||
                       type == HCCL_DATA_TYPE_BFP16;
    const bool wide = type != HCCL_DATA_TYPE_INT8 && type != HCCL_DATA_TYPE_INT16;  // the tree has no such sums
    if (op == HCCL_REDUCE_PROD || !known || !wide) {
      set(HCCL_E_NOT_SUPPORT,
          fmt::format("reduction {} of data type {}", static_cast<int>(op), static_cast<int>(type)));
    }
    if (op != HCCL_REDUCE_SUM && op != HCCL_REDUCE_MAX && op != HCCL_REDUCE_MIN) set(HCCL_E_PARA, "the reduction");
    return op == HCCL_REDUCE_MAX ? Reduce::max : op == HCCL_REDUCE_MIN ? Reduce::min : Reduce::sum;
  }
  void buffers(const void* send, std::uint64_t send_count, void* receive, std::uint64_t receive_count, Dtype dtype) {
    check_count(send_count);
    check_count(receive_count);
    check_buffer(send, send_count, dtype);
    check_buffer(receive, receive_count, dtype);
    request.send = {send, static_cast<std::int64_t>(send_count), dtype};
    request.receive = {receive, static_cast<std::int64_t>(receive_count), dtype, {}};
  }
  std::uint64_t size() const { return comm ? static_cast<std::uint64_t>(comm->group->size()) : 1; }

  HcclResult launch();

  const char* function;
  HcclResult result = HCCL_SUCCESS;
  std::optional<Fault> fault;
  std::shared_ptr<Comm> comm;
  std::shared_ptr<HostStream> stream;
  Request request;
};

// The first use of an operation connects the ranks, on the host.
HcclResult connect(Comm& comm, const Request& request) {
  if (request.op == Op::batch_send_recv) return HCCL_SUCCESS;  // other ranks may have no message
  {
    const std::lock_guard lock(comm.mutex);
    if (!comm.used.insert(request.op).second) return HCCL_SUCCESS;
  }
  const std::uint64_t key = (std::hash<std::string>{}(request.signature().str()) | 1) & ~(std::uint64_t{1} << 63);
  switch (comm.group->meet(static_cast<int>(request.op), key, Clock::now() + Machine::instance().connect_timeout)) {
    case RankGroup::Met::all:
      return HCCL_SUCCESS;
    case RankGroup::Met::differ:
      return refuse(HCCL_E_PARA, "EI0005: the arguments of the collective differ between ranks");
    case RankGroup::Met::late:
      return refuse(HCCL_E_TIMEOUT, "EI0006: getting socket times out");
  }
  return HCCL_E_INTERNAL;
}

void corrupt(const Request& request) {
  auto* data = static_cast<unsigned char*>(request.receive.data);
  if (data != nullptr && request.receive.count > 0) data[0] ^= 1;
}

HcclResult Call::launch() {
  if (result != HCCL_SUCCESS) return result;
  const HcclResult connected = connect(*comm, request);
  if (connected != HCCL_SUCCESS) return connected;
  comm->busy.fetch_add(1);
  const std::shared_ptr<void> busy(comm.get(), [comm = comm](void*) { comm->busy.fetch_sub(1); });
  auto turn = comm->group->next_turn();
  stream->submit([busy, turn, comm = comm, request = request, fault = fault](HostStream& self) -> int {
    using Kind = Fault::Kind;
    const auto kind = fault ? fault->kind : Kind::code;
    if (kind == Kind::crash) std::raise(SIGKILL);
    if (kind == Kind::hang) {
      while (!self.aborted()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      return acl_task_aborted;
    }
    if (kind == Kind::async) {
      comm->async = fault->value;
      return acl_stream_failed;
    }
    try {
      comm->group->run(request, *turn, [&] { return self.aborted(); });
    } catch (const std::exception&) {
      if (self.aborted()) return acl_task_aborted;
      comm->async = HCCL_E_REMOTE;
      return acl_stream_failed;
    }
    if (kind == Kind::corrupt) corrupt(request);
    return 0;
  });
  return HCCL_SUCCESS;
}

HcclResult create(std::unique_ptr<RankGroup> group, bool global, std::string name, HcclComm* out) {
  auto comm = std::make_shared<Comm>();
  comm->group = std::move(group);
  comm->global = global;
  comm->name = std::move(name);
  *out = add(std::move(comm));
  return HCCL_SUCCESS;
}

HcclResult no_device(const char* function) {
  return refuse(HCCL_E_RUNTIME, std::string(function) + ": this thread has no device");
}

}  // namespace

DUJIANG_EXPORT HcclResult HcclGetRootInfo(HcclRootInfo* info) {
  if (const int code = injected("HcclGetRootInfo")) return static_cast<HcclResult>(code);
  if (info == nullptr) return HCCL_E_PTR;
  if (Machine::instance().ready() != acl_success) return no_device("HcclGetRootInfo");
  try {
    // The id lies at the end too: all 4108 bytes must travel.
    const std::string id = RankGroup::make_id();
    std::memset(info->internal, 0x5a, sizeof info->internal);
    std::memcpy(info->internal, id.c_str(), id.size() + 1);
    std::memcpy(info->internal + sizeof info->internal - id.size() - 1, id.c_str(), id.size() + 1);
    return HCCL_SUCCESS;
  } catch (const std::exception& e) {
    return refuse(HCCL_E_SYSCALL, e.what());
  }
}

DUJIANG_EXPORT HcclResult HcclCommInitRootInfo(std::uint32_t size, const HcclRootInfo* info, std::uint32_t rank,
                                               HcclComm* comm) {
  if (const int code = injected("HcclCommInitRootInfo")) return static_cast<HcclResult>(code);
  if (info == nullptr || comm == nullptr) return HCCL_E_PTR;
  if (Machine::instance().ready() != acl_success) return no_device("HcclCommInitRootInfo");
  if (size == 0 || rank >= size || size > RankGroup::max_size) return refuse(HCCL_E_PARA, "the rank or the size");
  const std::string id(info->internal, ::strnlen(info->internal, RankGroup::max_id_bytes));
  const char* end = info->internal + sizeof info->internal - id.size() - 1;
  if (std::memcmp(end, id.c_str(), id.size() + 1) != 0) return refuse(HCCL_E_PARA, "the root info isn't whole");
  try {
    const auto deadline = Clock::now() + Machine::instance().connect_timeout;
    auto group = std::make_unique<RankGroup>(id, static_cast<int>(rank), static_cast<int>(size), deadline);
    return create(std::move(group), true, "hccl_world_group", comm);
  } catch (const std::exception& e) {
    return refuse(HCCL_E_TIMEOUT, e.what());
  }
}

DUJIANG_EXPORT HcclResult HcclCommInitClusterInfo(const char* path, std::uint32_t rank, HcclComm* comm) {
  if (const int code = injected("HcclCommInitClusterInfo")) return static_cast<HcclResult>(code);
  if (path == nullptr || comm == nullptr) return HCCL_E_PTR;
  if (Machine::instance().ready() != acl_success) return no_device("HcclCommInitClusterInfo");
  try {
    const auto table = comm::read_rank_table(path);
    const int size = static_cast<int>(table.ranks.size());
    if (rank >= table.ranks.size()) return refuse(HCCL_E_NOT_FOUND, fmt::format("rank {} isn't in {}", rank, path));
    const auto deadline = Clock::now() + Machine::instance().connect_timeout;
    const std::string id = standin::share_id(path, static_cast<int>(rank), size, deadline, RankGroup::make_id);
    auto group = std::make_unique<RankGroup>(id, static_cast<int>(rank), size, deadline);
    return create(std::move(group), true, "hccl_world_group", comm);
  } catch (const UserError& e) {
    return refuse(HCCL_E_PARA, e.what());
  } catch (const std::exception& e) {
    return refuse(HCCL_E_TIMEOUT, e.what());
  }
}

DUJIANG_EXPORT HcclResult HcclCreateSubCommConfig(HcclComm* parent, std::uint32_t size, std::uint32_t* ranks,
                                                  std::uint64_t id, std::uint32_t rank, HcclCommConfig* config,
                                                  HcclComm* out) {
  if (const int code = injected("HcclCreateSubCommConfig")) return static_cast<HcclResult>(code);
  if (parent == nullptr || out == nullptr || config == nullptr) return HCCL_E_PTR;
  const auto global = find(*parent);
  if (!global) return HCCL_E_PARA;
  if (!global->global) return refuse(HCCL_E_NOT_SUPPORT, "sub-communicators are made of the global one only");
  if (config->magic != 0xf0f0f0f0 || config->version == 0 || config->size < 32) {
    return refuse(HCCL_E_PARA, "the configuration's head");
  }
  if (ranks == nullptr) {
    *out = nullptr;
    return id == hccl_no_sub_comm ? HCCL_SUCCESS : refuse(HCCL_E_PTR, "the list of ranks is null");
  }
  if (id == hccl_no_sub_comm || size == 0 || rank >= size) return refuse(HCCL_E_PARA, "the id, the size or the rank");
  std::vector<int> members;
  for (std::uint32_t i = 0; i < size; ++i) {
    if (ranks[i] >= static_cast<std::uint32_t>(global->group->size())) return refuse(HCCL_E_PARA, "a rank");
    members.push_back(static_cast<int>(ranks[i]));
  }
  if (std::set<int>(members.begin(), members.end()).size() != size || members[rank] != global->group->rank()) {
    return refuse(HCCL_E_PARA, "the list of ranks");
  }
  try {
    const auto deadline = Clock::now() + Machine::instance().connect_timeout;
    return create(global->group->subgroup(members, id, deadline), false, fmt::format("sub_{}", id), out);
  } catch (const std::exception& e) {
    return refuse(HCCL_E_TIMEOUT, e.what());
  }
}

DUJIANG_EXPORT HcclResult HcclCommDestroy(HcclComm handle) {
  if (const int code = injected("HcclCommDestroy")) return static_cast<HcclResult>(code);
  if (handle == nullptr) return HCCL_E_PTR;
  const auto comm = find(handle);
  if (!comm) return HCCL_E_PARA;
  if (comm->busy.load() > 0) return HCCL_E_AGAIN;
  const std::lock_guard lock(comms_mutex);
  comms().erase(handle);
  return HCCL_SUCCESS;
}

DUJIANG_EXPORT HcclResult HcclGetRankSize(HcclComm handle, std::uint32_t* size) {
  const auto comm = find(handle);
  if (!comm || size == nullptr) return HCCL_E_PTR;
  *size = static_cast<std::uint32_t>(comm->group->size());
  return HCCL_SUCCESS;
}

DUJIANG_EXPORT HcclResult HcclGetRankId(HcclComm handle, std::uint32_t* rank) {
  const auto comm = find(handle);
  if (!comm || rank == nullptr) return HCCL_E_PTR;
  *rank = static_cast<std::uint32_t>(comm->group->rank());
  return HCCL_SUCCESS;
}

DUJIANG_EXPORT HcclResult HcclGetCommName(HcclComm handle, char* name) {
  const auto comm = find(handle);
  if (!comm || name == nullptr) return HCCL_E_PTR;
  std::strncpy(name, comm->name.c_str(), 127);
  return HCCL_SUCCESS;
}

DUJIANG_EXPORT HcclResult HcclGetCommAsyncError(HcclComm handle, HcclResult* error) {
  const auto comm = find(handle);
  if (!comm || error == nullptr) return HCCL_E_PTR;
  *error = static_cast<HcclResult>(comm->async.load());
  return HCCL_SUCCESS;
}

DUJIANG_EXPORT const char* HcclGetErrorString(HcclResult code) {
  return code == HCCL_SUCCESS ? "no error" : "stand-in error";
}

DUJIANG_EXPORT HcclResult HcclAllReduce(void* send, void* receive, std::uint64_t count, HcclDataType type,
                                        HcclReduceOp op, HcclComm comm, aclrtStream stream) {
  if (count == 0) return HCCL_SUCCESS;
  Call call("HcclAllReduce", Op::all_reduce, comm, stream);
  const Dtype dtype = call.check_type(type);
  call.request.reduce = call.check_reduction(type, op);
  call.buffers(send, count, receive, count, dtype);
  return call.launch();
}

DUJIANG_EXPORT HcclResult HcclReduceScatter(void* send, void* receive, std::uint64_t count, HcclDataType type,
                                            HcclReduceOp op, HcclComm comm, aclrtStream stream) {
  if (count == 0) return HCCL_SUCCESS;
  Call call("HcclReduceScatter", Op::reduce_scatter, comm, stream);
  call.check_count(count);
  const Dtype dtype = call.check_type(type);
  call.request.reduce = call.check_reduction(type, op);
  if (call.result == HCCL_SUCCESS) call.buffers(send, count * call.size(), receive, count, dtype);
  return call.launch();
}

DUJIANG_EXPORT HcclResult HcclAllGather(void* send, void* receive, std::uint64_t count, HcclDataType type,
                                        HcclComm comm, aclrtStream stream) {
  if (count == 0) return HCCL_SUCCESS;
  Call call("HcclAllGather", Op::all_gather, comm, stream);
  call.check_count(count);
  const Dtype dtype = call.check_type(type);
  if (call.result == HCCL_SUCCESS) call.buffers(send, count, receive, count * call.size(), dtype);
  return call.launch();
}

DUJIANG_EXPORT HcclResult HcclBroadcast(void* data, std::uint64_t count, HcclDataType type, std::uint32_t root,
                                        HcclComm comm, aclrtStream stream) {
  if (count == 0) return HCCL_SUCCESS;
  Call call("HcclBroadcast", Op::broadcast, comm, stream);
  call.check_rank(root);
  call.request.root = static_cast<int>(root);
  call.buffers(data, count, data, count, call.check_type(type));
  return call.launch();
}

DUJIANG_EXPORT HcclResult HcclReduce(void* send, void* receive, std::uint64_t count, HcclDataType type, HcclReduceOp op,
                                     std::uint32_t root, HcclComm comm, aclrtStream stream) {
  if (count == 0) return HCCL_SUCCESS;
  Call call("HcclReduce", Op::reduce, comm, stream);
  call.check_rank(root);
  call.request.root = static_cast<int>(root);
  call.request.reduce = call.check_reduction(type, op);
  call.buffers(send, count, receive, count, call.check_type(type));
  if (call.result == HCCL_SUCCESS && static_cast<int>(root) != call.comm->group->rank()) call.request.receive = {};
  return call.launch();
}

DUJIANG_EXPORT HcclResult HcclAlltoAllV(const void* send, const void* send_counts, const void* send_offsets,
                                        HcclDataType send_type, const void* receive, const void* receive_counts,
                                        const void* receive_offsets, HcclDataType receive_type, HcclComm comm,
                                        aclrtStream stream) {
  Call call("HcclAlltoAllV", Op::all_to_all, comm, stream);
  if (send_counts == nullptr || send_offsets == nullptr || receive_counts == nullptr || receive_offsets == nullptr) {
    call.set(HCCL_E_PTR, "an array of counts or displacements is null");
  }
  if (send != nullptr && send == receive) call.set(HCCL_E_PARA, "it can't be in place");
  if (send_type != receive_type) call.set(HCCL_E_PARA, "the data types differ");
  const Dtype dtype = call.check_type(send_type);
  if (call.result != HCCL_SUCCESS) return call.result;
  const auto read = [&](const void* counts, const void* offsets, std::vector<std::int64_t>& into) {
    std::uint64_t total = 0;
    for (std::uint64_t r = 0; r < call.size(); ++r) {
      const std::uint64_t n = static_cast<const std::uint64_t*>(counts)[r];
      call.check_count(n);
      // The engine's pieces lie one after the other; the transport's do too.
      if (static_cast<const std::uint64_t*>(offsets)[r] != total) call.set(HCCL_E_NOT_SUPPORT, "gaps between pieces");
      total += n;
      into.push_back(static_cast<std::int64_t>(n));
    }
    return total;
  };
  const std::uint64_t sent = read(send_counts, send_offsets, call.request.send_counts);
  const std::uint64_t received = read(receive_counts, receive_offsets, call.request.receive_counts);
  if (call.result == HCCL_SUCCESS) call.buffers(send, sent, const_cast<void*>(receive), received, dtype);
  return call.launch();
}

DUJIANG_EXPORT HcclResult HcclBatchSendRecv(HcclSendRecvItem* items, std::uint32_t count, HcclComm comm,
                                            aclrtStream stream) {
  if (count == 0) return HCCL_SUCCESS;
  Call call("HcclBatchSendRecv", Op::batch_send_recv, comm, stream);
  if (items == nullptr) call.set(HCCL_E_PTR, "the list is null");
  std::set<std::pair<int, std::uint32_t>> pairs;
  for (std::uint32_t i = 0; i < count && call.result == HCCL_SUCCESS; ++i) {
    const HcclSendRecvItem& item = items[i];
    const Dtype dtype = call.check_type(item.dataType);
    call.check_count(item.count);
    call.check_rank(item.remoteRank);
    call.check_buffer(item.buf, item.count, dtype);
    if (!pairs.emplace(item.sendRecvType, item.remoteRank).second) call.set(HCCL_E_PARA, "two messages to one rank");
    const auto kind = item.sendRecvType == HCCL_SEND ? P2p::Kind::send : P2p::Kind::receive;
    call.request.messages.push_back(
        {kind, {item.buf, static_cast<std::int64_t>(item.count), dtype, {}}, static_cast<int>(item.remoteRank)});
  }
  return call.launch();
}

DUJIANG_EXPORT HcclResult HcclBarrier(HcclComm comm, aclrtStream stream) {
  Call call("HcclBarrier", Op::barrier, comm, stream);
  return call.launch();
}

}  // namespace dujiang::hccl
