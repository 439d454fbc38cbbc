#include "comm/hccl/hccl_communicator.h"

#include <algorithm>
#include <map>
#include <utility>

#include "comm/hccl/hccl_join.h"
#include "comm/hccl/hccl_session.h"
#include "framework/base/check.h"

namespace dujiang::comm {
namespace {

using namespace hccl;

HcclDataType type_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32:
      return HCCL_DATA_TYPE_FP32;
    case Dtype::bf16:
      return HCCL_DATA_TYPE_BFP16;
    case Dtype::f16:
      return HCCL_DATA_TYPE_FP16;
    case Dtype::f64:
      return HCCL_DATA_TYPE_FP64;
    case Dtype::i32:
      return HCCL_DATA_TYPE_INT32;
    case Dtype::i64:
      return HCCL_DATA_TYPE_INT64;
    case Dtype::u8:
      return HCCL_DATA_TYPE_UINT8;
    case Dtype::u16:
      return HCCL_DATA_TYPE_UINT16;
    case Dtype::u32:
      return HCCL_DATA_TYPE_UINT32;
    case Dtype::u64:
      return HCCL_DATA_TYPE_UINT64;
  }
  fail("hccl: no data type for {}", name_of(dtype));
}

HcclReduceOp operation_of(Reduce reduce) {
  if (reduce == Reduce::max) return HCCL_REDUCE_MAX;
  if (reduce == Reduce::min) return HCCL_REDUCE_MIN;
  DUJIANG_CHECK(reduce == Reduce::sum, "hccl: no reduction {}", name_of(reduce));
  return HCCL_REDUCE_SUM;
}

std::size_t bytes_of(const ConstBuffer& buffer) {
  return static_cast<std::size_t>(buffer.count) * size_of(buffer.dtype);
}

// The host arrays of an all_to_all, which HCCL may read until the operation has run.
struct Pieces {
  explicit Pieces(const Request& q) {
    fill(q.send_counts, send_counts, send_offsets);
    fill(q.receive_counts, receive_counts, receive_offsets);
  }
  static void fill(const std::vector<std::int64_t>& from, std::vector<std::uint64_t>& counts,
                   std::vector<std::uint64_t>& offsets) {
    std::uint64_t offset = 0;
    for (const std::int64_t n : from) {
      counts.push_back(static_cast<std::uint64_t>(n));
      offsets.push_back(offset);
      offset += counts.back();
    }
  }
  std::vector<std::uint64_t> send_counts, send_offsets, receive_counts, receive_offsets;
};

// Messages to others in rounds of at most one each way between two ranks (the k-th of every pair in round k), and pairs
// of messages to oneself.
struct Batch {
  Batch(const Request& q, int rank) {
    std::map<std::pair<int, P2p::Kind>, std::size_t> seen;
    std::vector<P2p> sends, receives;
    for (const P2p& m : q.messages) {
      if (m.peer == rank) {
        (m.kind == P2p::Kind::send ? sends : receives).push_back(m);
        continue;
      }
      const std::size_t round = seen[{m.peer, m.kind}]++;
      if (rounds.size() <= round) rounds.resize(round + 1);
      rounds[round].push_back({m.kind == P2p::Kind::send ? HCCL_SEND : HCCL_RECV, m.buffer.data,
                               static_cast<std::uint64_t>(m.buffer.count), type_of(m.buffer.dtype),
                               static_cast<std::uint32_t>(m.peer)});
    }
    DUJIANG_CHECK(sends.size() == receives.size(),
                  "batch_send_recv (hccl, rank {}): {} messages to itself, but it receives {} from itself", rank,
                  sends.size(), receives.size());
    for (std::size_t i = 0; i < sends.size(); ++i) {
      const Buffer &from = sends[i].buffer, &to = receives[i].buffer;
      DUJIANG_CHECK(from.count == to.count && from.dtype == to.dtype,
                    "batch_send_recv (hccl, rank {}): message {} to itself is sent as {} x {}, received as {} x {}",
                    rank, i, from.count, name_of(from.dtype), to.count, name_of(to.dtype));
      own.emplace_back(from, to);
    }
  }
  std::vector<std::vector<HcclSendRecvItem>> rounds;
  std::vector<std::pair<Buffer, Buffer>> own;
};

void check_counts(const Request& q, int rank) {
  const auto check = [&](std::int64_t count) {
    DUJIANG_CHECK(static_cast<std::uint64_t>(count) <= hccl_max_count,
                  "{} (hccl, rank {}): {} elements, but HCCL takes at most {} in one operation: split it",
                  name_of(q.op), rank, count, hccl_max_count);
  };
  check(q.send.count);
  check(q.receive.count);
  for (const P2p& m : q.messages) check(m.buffer.count);
}

class HcclCommunicator final : public Communicator {
 public:
  HcclCommunicator(std::shared_ptr<Handle> handle, std::shared_ptr<Handle> global, std::vector<Seat> seats,
                   const std::shared_ptr<Flight>& flight)
      : Communicator({"hccl", Device{DeviceType::npu, handle->device()}, false}, place_of(*flight, seats), flight),
        library_(handle->shared_library()),
        comm_(handle->get()),
        global_(std::move(global)),
        seats_(std::move(seats)),
        session_(std::make_shared<Session>(std::move(handle), flight)),
        exceptions_(std::uncaught_exceptions()) {}

  ~HcclCommunicator() override { session_->close(std::uncaught_exceptions() > exceptions_ || flight()->poisoned()); }

 private:
  Work do_start(Request q, Stream& stream) override {
    check_counts(q, rank());
    const aclrtStream on = stream.handle();
    void* send = const_cast<void*>(q.send.data);
    void* receive = q.receive.data;
    const HcclDataType type = q.op == Op::barrier ? HCCL_DATA_TYPE_INT8 : type_of(q.send.dtype);
    const auto send_count = static_cast<std::uint64_t>(q.send.count);
    const auto root = static_cast<std::uint32_t>(q.root);
    switch (q.op) {
      case Op::all_reduce:
        return session_->start(
            q, on,
            [&] { return library_->HcclAllReduce(send, receive, send_count, type, operation_of(q.reduce), comm_, on); },
            nullptr);
      case Op::reduce_scatter:
        return session_->start(
            q, on,
            [&] {
              return library_->HcclReduceScatter(send, receive, static_cast<std::uint64_t>(q.receive.count), type,
                                                 operation_of(q.reduce), comm_, on);
            },
            nullptr);
      case Op::all_gather:
        return session_->start(
            q, on, [&] { return library_->HcclAllGather(send, receive, send_count, type, comm_, on); }, nullptr);
      case Op::broadcast:
        return session_->start(
            q, on, [&] { return library_->HcclBroadcast(send, send_count, type, root, comm_, on); }, nullptr);
      case Op::reduce:
        // Off the root nothing is received, but HCCL refuses a null pointer.
        return session_->start(
            q, on,
            [&] {
              return library_->HcclReduce(send, rank() == q.root ? receive : send, send_count, type,
                                          operation_of(q.reduce), root, comm_, on);
            },
            nullptr);
      case Op::all_to_all: {
        const auto pieces = std::make_shared<Pieces>(q);
        return session_->start(
            q, on,
            [&] {
              return library_->HcclAlltoAllV(send, pieces->send_counts.data(), pieces->send_offsets.data(), type,
                                             receive, pieces->receive_counts.data(), pieces->receive_offsets.data(),
                                             type, comm_, on);
            },
            pieces);
      }
      case Op::batch_send_recv: {
        const auto batch = std::make_shared<Batch>(q, rank());
        return session_->start(
            q, on, [&] { return run(*batch, on); }, batch);
      }
      case Op::barrier:
        return session_->start(
            q, on, [&] { return library_->HcclBarrier(comm_, on); }, nullptr);
    }
    fail("hccl: unknown operation");
  }

  HcclResult run(Batch& batch, aclrtStream on) {
    for (const auto& [from, to] : batch.own) {
      library_->check_acl(
          library_->aclrtMemcpyAsync(to.data, bytes_of(to), from.data, bytes_of(from), acl_copy_device_to_device, on),
          fmt::format("batch_send_recv (hccl, rank {}): aclrtMemcpyAsync to itself", rank()));
    }
    for (auto& round : batch.rounds) {
      const HcclResult result =
          library_->HcclBatchSendRecv(round.data(), static_cast<std::uint32_t>(round.size()), comm_, on);
      if (result != HCCL_SUCCESS) return result;
    }
    return HCCL_SUCCESS;
  }

  bool do_supports(Op op, Dtype dtype, Reduce reduce) const override {
    if (!reduces(op)) return true;
    const bool type = dtype == Dtype::f32 || dtype == Dtype::bf16 || dtype == Dtype::f16 || dtype == Dtype::i32 ||
                      dtype == Dtype::i64;
    return type && reduce != Reduce::avg;
  }

  std::shared_ptr<void> do_allocate(std::size_t bytes) override {
    if (bytes == 0) return nullptr;
    library_->use_device(device().index);
    void* memory = nullptr;
    library_->check_acl(library_->aclrtMalloc(&memory, bytes, acl_malloc_huge_first),
                        fmt::format("allocate (hccl, rank {} of {}): aclrtMalloc of {} bytes on {}", rank(), size(),
                                    bytes, device().str()));
    std::shared_ptr<void> owner(memory, [library = library_, device = device().index](void* p) {
      try {
        library->use_device(device);
        library->aclrtFree(p);
      } catch (const std::exception&) {  // the device is lost, and its memory with it
      }
    });
    library_->check_acl(library_->aclrtMemset(memory, bytes, 0, bytes),
                        fmt::format("allocate (hccl, rank {} of {}): aclrtMemset", rank(), size()));
    return owner;
  }

  std::unique_ptr<Communicator> do_split(int color, int key) override {
    session_->drain();
    const auto members = split_members(*flight(), splits_++, color, key, operation_deadline(*flight()));
    auto child = flight()->child(color, members);
    // HCCL makes sub-communicators of the global one only; its ranks that are left out say so.
    const bool from_world = static_cast<int>(seats_.size()) == size();
    library_->use_device(device().index);
    auto handle = child || from_world ? make_sub_communicator(global_, child.get()) : nullptr;
    if (!child) return nullptr;
    return std::make_unique<HcclCommunicator>(std::move(handle), global_, seats_, child);
  }

  const std::shared_ptr<const Library> library_;
  const HcclComm comm_;
  const std::shared_ptr<Handle> global_;
  const std::vector<Seat> seats_;  // of all ranks of the job
  const std::shared_ptr<Session> session_;
  const int exceptions_;
  int splits_ = 0;
};

}  // namespace

std::unique_ptr<Communicator> make_hccl_communicator(std::shared_ptr<Watchdog> watchdog, int rank, int size, int device,
                                                     const JoinLimits& limits) {
  std::vector<Seat> seats;
  auto handle = join_world(watchdog, rank, size, device, limits, seats);
  std::vector<int> members;
  for (int r = 0; r < size; ++r) members.push_back(r);
  auto flight = std::make_shared<Flight>("world", std::move(members), rank, std::move(watchdog));
  return std::make_unique<HcclCommunicator>(handle, handle, std::move(seats), flight);
}

}  // namespace dujiang::comm
