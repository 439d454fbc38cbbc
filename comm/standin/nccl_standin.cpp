// NCCL's functions that the nccl transport calls, on host memory: linked in place of libnccl in tests.
//
// Ranks are processes of one host that meet in a RankGroup; sums follow its tree. Communicators are non-blocking only,
// and the rules of such are enforced: a call on one that is still in progress is refused, what a group collects starts
// at its end and in the background, operations on memory that is not the device's are refused, an abort ends what runs
// without failing the stream. Other devices than the communicator's are refused, a second finalize too.
//
// Faults: cuda_standin.cpp. Besides:
//   DUJIANG_STANDIN_NCCL_VERSION_<RANK>    what ncclGetVersion says on a rank, if not the header's

#include "comm/standin/nccl_standin.h"

#include <vector>

using namespace dujiang;
using namespace dujiang::standin;

namespace {

// An operation collected by a group.
struct Collected {
  ncclComm_t comm;
  cudaStream_t stream;
  comm::Request request;
  std::optional<CudaFault> fault;
};

thread_local int group_depth = 0;
thread_local ncclResult_t group_error = ncclSuccess;
thread_local std::vector<Collected> collected;

bool dtype_of(ncclDataType_t type, Dtype& dtype) {
  switch (type) {
    case ncclUint8:
      dtype = Dtype::u8;
      return true;
    case ncclInt32:
      dtype = Dtype::i32;
      return true;
    case ncclUint32:
      dtype = Dtype::u32;
      return true;
    case ncclInt64:
      dtype = Dtype::i64;
      return true;
    case ncclUint64:
      dtype = Dtype::u64;
      return true;
    case ncclFloat16:
      dtype = Dtype::f16;
      return true;
    case ncclFloat32:
      dtype = Dtype::f32;
      return true;
    case ncclFloat64:
      dtype = Dtype::f64;
      return true;
    case ncclBfloat16:
      dtype = Dtype::bf16;
      return true;
    default:
      return false;
  }
}

comm::Reduce reduce_of(ncclRedOp_t op) {
  return op == ncclMax   ? comm::Reduce::max
         : op == ncclMin ? comm::Reduce::min
         : op == ncclAvg ? comm::Reduce::avg
                         : comm::Reduce::sum;
}

bool on_device(const comm::ConstBuffer& b) {
  return b.count == 0 || cuda_memory().contains(b.data, static_cast<std::size_t>(b.count) * size_of(b.dtype));
}

ncclResult_t check(const Collected& c) {
  const comm::Request& q = c.request;
  const NcclCore& core = *c.comm->core;
  if (const auto result = c.comm->ready(); result != ncclSuccess) return result;
  if (cuda_stream(c.stream).device != core.device) return refuse(ncclInvalidArgument, "the stream is of another GPU");
  if (q.root < 0 || q.root >= core.size) return refuse(ncclInvalidArgument, "invalid root");
  for (const auto& m : q.messages) {
    if (m.peer < 0 || m.peer >= core.size) return refuse(ncclInvalidArgument, "invalid peer");
    if (!on_device(m.buffer)) return refuse(ncclInvalidArgument, "a message is not in memory of the GPU");
  }
  if (!on_device(q.send)) return refuse(ncclInvalidArgument, "sendbuff is not memory of the GPU");
  if ((q.op != comm::Op::reduce || core.rank == q.root) && !on_device(q.receive)) {
    return refuse(ncclInvalidArgument, "recvbuff is not memory of the GPU");
  }
  return ncclSuccess;
}

// Puts one operation on its stream.
void submit(const std::shared_ptr<NcclCore>& core, cudaStream_t stream, comm::Request request,
            std::optional<CudaFault> fault) {
  ++core->running;
  auto turn = core->group->next_turn();
  auto task = [core, fault, turn, request = std::move(request)](HostStream& host) mutable {
    const auto stopped = [&] { return core->interrupted() || host.aborted(); };
    try {
      if (fault && fault->kind == CudaFault::Kind::async) {
        refuse(ncclInternalError, "the stand-in was told to fail");
        core->failure = fault->code;
      }
      if (fault) {
        core->wait_for_abort();
      } else if (request.op != comm::Op::batch_send_recv && request.send.count == 0) {
        // Nothing to move; NCCL doesn't synchronise for it.
      } else {
        core->group->run(request, *turn, stopped);
      }
    } catch (const std::exception& e) {
      if (!core->aborted) core->failure = refuse(ncclRemoteError, e.what());
      core->wait_for_abort();  // a kernel that can't go on spins until the abort, which it takes for its end
    }
    turn.reset();
    --core->running;
    return 0;
  };
  cuda_stream(stream).stream.submit(std::move(task));
}

// Sends and receives of one communicator and stream make one operation.
std::vector<Collected> fused(std::vector<Collected> all) {
  std::vector<Collected> result;
  for (Collected& c : all) {
    const bool message = c.request.op == comm::Op::batch_send_recv;
    if (message && !result.empty() && result.back().request.op == comm::Op::batch_send_recv &&
        result.back().comm == c.comm && result.back().stream == c.stream) {
      result.back().request.messages.push_back(c.request.messages.front());
      if (!result.back().fault) result.back().fault = c.fault;
    } else {
      result.push_back(std::move(c));
    }
  }
  return result;
}

ncclResult_t end_group() {
  auto all = fused(std::move(collected));
  collected.clear();
  const auto error = std::exchange(group_error, ncclSuccess);
  if (error != ncclSuccess) return error;
  if (all.empty()) return ncclSuccess;
  const ncclComm_t comm = all.front().comm;
  for (const Collected& c : all) {
    if (c.comm != comm) return refuse(ncclInvalidUsage, "the stand-in groups calls of one communicator only");
  }
  const auto core = comm->core;
  const int device = cuda_device();
  return comm->begin(std::nullopt, [core, device, all = std::move(all)] {
    (void)cudaSetDevice(device);
    for (const Collected& c : all) submit(core, c.stream, c.request, c.fault);
    core->state = ncclSuccess;
  });
}

ncclResult_t collect(const char* function, ncclComm_t comm, cudaStream_t stream, comm::Request request) {
  Collected c{comm, stream, std::move(request), std::nullopt};
  ncclResult_t result = at_call(function, c.fault);
  if (result == ncclSuccess) result = check(c);
  ++group_depth;
  if (result == ncclSuccess) {
    collected.push_back(std::move(c));
  } else {
    group_error = result;
  }
  return --group_depth == 0 ? end_group() : result;
}

ncclResult_t collective(const char* function, comm::Op op, const void* send, void* receive, std::size_t send_count,
                        std::size_t receive_count, ncclDataType_t type, ncclRedOp_t reduce, int root, ncclComm_t comm,
                        cudaStream_t stream) {
  Dtype dtype = Dtype::f32;
  if (!dtype_of(type, dtype)) return refuse(ncclInvalidArgument, "invalid type");
  return collect(function, comm, stream,
                 {.op = op,
                  .send = {send, static_cast<std::int64_t>(send_count), dtype, {}},
                  .receive = {receive, static_cast<std::int64_t>(receive_count), dtype, {}},
                  .reduce = reduce_of(reduce),
                  .root = root});
}

ncclResult_t message(const char* function, comm::P2p::Kind kind, void* data, std::size_t count, ncclDataType_t type,
                     int peer, ncclComm_t comm, cudaStream_t stream) {
  Dtype dtype = Dtype::f32;
  if (!dtype_of(type, dtype)) return refuse(ncclInvalidArgument, "invalid type");
  comm::Request request{.op = comm::Op::batch_send_recv};
  request.messages.push_back({kind, {data, static_cast<std::int64_t>(count), dtype, {}}, peer});
  return collect(function, comm, stream, std::move(request));
}

}  // namespace

extern "C" {

ncclResult_t ncclGroupStart() {
  std::optional<CudaFault> fault;
  if (const auto result = at_call(__func__, fault); result != ncclSuccess) return result;
  ++group_depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  std::optional<CudaFault> fault;
  if (group_depth == 0) return refuse(ncclInvalidUsage, "ncclGroupEnd: not in a group call.");
  if (const auto result = at_call(__func__, fault); result != ncclSuccess) group_error = result;
  return --group_depth == 0 ? end_group() : ncclSuccess;
}

ncclResult_t ncclAllReduce(const void* send, void* receive, std::size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
  return collective(__func__, comm::Op::all_reduce, send, receive, count, count, type, op, 0, comm, stream);
}

ncclResult_t ncclReduceScatter(const void* send, void* receive, std::size_t count, ncclDataType_t type, ncclRedOp_t op,
                               ncclComm_t comm, cudaStream_t stream) {
  const auto all = count * static_cast<std::size_t>(comm->core->size);
  return collective(__func__, comm::Op::reduce_scatter, send, receive, all, count, type, op, 0, comm, stream);
}

ncclResult_t ncclAllGather(const void* send, void* receive, std::size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  const auto all = count * static_cast<std::size_t>(comm->core->size);
  return collective(__func__, comm::Op::all_gather, send, receive, count, all, type, ncclSum, 0, comm, stream);
}

ncclResult_t ncclBroadcast(const void* send, void* receive, std::size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  if (send != receive) return refuse(ncclInvalidArgument, "the stand-in broadcasts in place");
  return collective(__func__, comm::Op::broadcast, send, receive, count, count, type, ncclSum, root, comm, stream);
}

ncclResult_t ncclReduce(const void* send, void* receive, std::size_t count, ncclDataType_t type, ncclRedOp_t op,
                        int root, ncclComm_t comm, cudaStream_t stream) {
  const bool here = comm->core->rank == root;
  return collective(__func__, comm::Op::reduce, send, here ? receive : nullptr, count, here ? count : 0, type, op, root,
                    comm, stream);
}

ncclResult_t ncclSend(const void* send, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return message(__func__, comm::P2p::Kind::send, const_cast<void*>(send), count, type, peer, comm, stream);
}

ncclResult_t ncclRecv(void* receive, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return message(__func__, comm::P2p::Kind::receive, receive, count, type, peer, comm, stream);
}

}  // extern "C"
