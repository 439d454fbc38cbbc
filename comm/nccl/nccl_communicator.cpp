#include "comm/nccl/nccl_communicator.h"

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <exception>
#include <thread>

#include "comm/nccl/nccl_check.h"
#include "comm/nccl/nccl_engine.h"
#include "comm/rendezvous/seats.h"

namespace dujiang::comm {
namespace {

using namespace std::chrono_literals;

// What this rank tells the others; `device` becomes the GPU it uses.
Seat take_gpu(int& device) {
  return take_seat([&](Seat& seat) {
    int visible = 0;
    const auto error = cudaGetDeviceCount(&visible);
    if (error != cudaSuccess || visible == 0) {
      fail("it found no GPU ({}); check nvidia-smi and CUDA_VISIBLE_DEVICES",
           error != cudaSuccess ? cuda_sentence(error) : "CUDA sees 0 devices");
    }
    if (visible == 1) device = 0;  // a launcher may show each rank its own GPU only
    if (device >= visible) {
      fail("it would use GPU {}, but sees {}; start at most one rank for each GPU of a host", device, visible);
    }
    char address[32] = {};
    check_cuda(cudaDeviceGetPCIBusId(address, sizeof address, device), "looking for the GPU");
    check_cuda(cudaSetDevice(device), "taking the GPU");
    seat.device = fmt::format("GPU {}", address);
    int version = 0;
    const auto asked = ncclGetVersion(&version);
    DUJIANG_CHECK(asked == ncclSuccess, "it has no working NCCL: {}", nccl_sentence(asked));
    seat.software = fmt::format("NCCL {}", version);
  });
}

std::string hex(const std::string& bytes) {
  std::string text;
  for (const char c : bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return text;
}

std::string from_hex(const std::string& text) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

// Elements as NCCL counts them. It has no 16-bit integers, but what only moves may as well be bytes.
struct Elements {
  ncclDataType_t type = ncclUint8;
  std::size_t count = 0;
};

Elements elements(Dtype dtype, std::int64_t count) {
  const auto n = static_cast<std::size_t>(count);
  switch (dtype) {
    case Dtype::f32:
      return {ncclFloat32, n};
    case Dtype::bf16:
      return {ncclBfloat16, n};
    case Dtype::f16:
      return {ncclFloat16, n};
    case Dtype::f64:
      return {ncclFloat64, n};
    case Dtype::i32:
      return {ncclInt32, n};
    case Dtype::i64:
      return {ncclInt64, n};
    case Dtype::u8:
      return {ncclUint8, n};
    case Dtype::u16:
      return {ncclUint8, 2 * n};
    case Dtype::u32:
      return {ncclUint32, n};
    case Dtype::u64:
      return {ncclUint64, n};
  }
  fail("nccl: no such dtype: {}", static_cast<int>(dtype));
}

ncclRedOp_t operator_of(Reduce reduce) {
  switch (reduce) {
    case Reduce::sum:
      return ncclSum;
    case Reduce::max:
      return ncclMax;
    case Reduce::min:
      return ncclMin;
    case Reduce::avg:
      return ncclAvg;
  }
  fail("nccl: no such reduction: {}", static_cast<int>(reduce));
}

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(int device, std::vector<Seat> seats, std::shared_ptr<NcclEngine> engine,
                   const std::shared_ptr<Flight>& flight)
      : Communicator({"nccl", {DeviceType::cuda, device}, false}, place_of(*flight, seats), flight),
        seats_(std::move(seats)),
        engine_(std::move(engine)),
        exceptions_(std::uncaught_exceptions()),
        watching_([engine = engine_] { engine->watch(); }) {
    try {
      token_ = engine_->allocate(sizeof(std::int32_t));
    } catch (...) {
      engine_->close(true);
      watching_.join();
      throw;
    }
  }

  ~NcclCommunicator() override {
    engine_->close(std::uncaught_exceptions() > exceptions_);
    watching_.join();  // bounded by the watchdog's timeout, and by the engine's own for NCCL's last call
  }

 private:
  Work do_start(Request request, Stream& stream) override {
    const auto handle = static_cast<cudaStream_t>(stream.handle());
    return engine_->start(request, stream, [&](ncclComm* comm) -> int { return launch(request, comm, handle); });
  }

  ncclResult_t launch(const Request& q, ncclComm_t comm, cudaStream_t stream) {
    const Elements e = elements(q.send.dtype, q.send.count);
    const auto op = operator_of(q.reduce);
    switch (q.op) {
      case Op::all_reduce:
        return ncclAllReduce(q.send.data, q.receive.data, e.count, e.type, op, comm, stream);
      case Op::reduce_scatter:
        return ncclReduceScatter(q.send.data, q.receive.data, static_cast<std::size_t>(q.receive.count), e.type, op,
                                 comm, stream);
      case Op::all_gather:
        return ncclAllGather(q.send.data, q.receive.data, e.count, e.type, comm, stream);
      case Op::broadcast:
        return ncclBroadcast(q.send.data, q.receive.data, e.count, e.type, q.root, comm, stream);
      case Op::reduce:
        return ncclReduce(q.send.data, q.receive.data, e.count, e.type, op, q.root, comm, stream);
      case Op::barrier:
        return ncclAllReduce(token_.get(), token_.get(), 1, ncclInt32, ncclSum, comm, stream);
      case Op::all_to_all:
        return grouped([&](auto&& add) { all_to_all(q, add); }, comm, stream);
      case Op::batch_send_recv:
        return grouped(
            [&](auto&& add) {
              for (const P2p& m : q.messages) add(m);
            },
            comm, stream);
    }
    fail("nccl: no such operation: {}", static_cast<int>(q.op));
  }

  // Messages start together, or those of two ranks to each other would wait for each other.
  template <class Messages>
  static ncclResult_t grouped(const Messages& messages, ncclComm_t comm, cudaStream_t stream) {
    ncclResult_t first = ncclGroupStart();
    if (first != ncclSuccess) return first;
    messages([&](const P2p& m) {
      const Elements e = elements(m.buffer.dtype, m.buffer.count);
      if (first != ncclSuccess && first != ncclInProgress) return;
      first = m.kind == P2p::Kind::send ? ncclSend(m.buffer.data, e.count, e.type, m.peer, comm, stream)
                                        : ncclRecv(m.buffer.data, e.count, e.type, m.peer, comm, stream);
    });
    const ncclResult_t last = ncclGroupEnd();  // always: it ends the group of this thread
    return first == ncclSuccess || first == ncclInProgress ? last : first;
  }

  template <class Add>
  void all_to_all(const Request& q, const Add& add) const {
    const auto pieces = [&](P2p::Kind kind, void* data, const std::vector<std::int64_t>& counts) {
      auto* at = static_cast<std::byte*>(data);
      for (int r = 0; r < size(); ++r) {
        const std::int64_t count = counts[static_cast<std::size_t>(r)];
        if (count > 0) add(P2p{kind, {at, count, q.send.dtype, device()}, r});
        at += static_cast<std::size_t>(count) * size_of(q.send.dtype);
      }
    };
    pieces(P2p::Kind::send, const_cast<void*>(q.send.data), q.send_counts);
    pieces(P2p::Kind::receive, q.receive.data, q.receive_counts);
  }

  bool do_supports(Op op, Dtype dtype, Reduce reduce) const override {
    if (!reduces(op)) return true;
    return dtype != Dtype::u16 && (reduce != Reduce::avg || is_floating(dtype));
  }

  std::shared_ptr<void> do_allocate(std::size_t bytes) override { return engine_->allocate(bytes); }

  std::unique_ptr<Communicator> do_split(int color, int key) override {
    engine_->drain();
    const auto deadline = operation_deadline(*flight());
    const auto members = split_members(*flight(), splits_++, color, key, deadline);
    auto child = flight()->child(color, members);
    auto engine = engine_->split(color, key, child, deadline);
    if (!engine) return nullptr;
    return std::make_unique<NcclCommunicator>(device().index, seats_, std::move(engine), child);
  }

  const std::vector<Seat> seats_;  // of all ranks of the job
  const std::shared_ptr<NcclEngine> engine_;
  const int exceptions_;
  int splits_ = 0;
  std::thread watching_;
  std::shared_ptr<void> token_;  // what a barrier sums; NCCL has no barrier
};

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(std::shared_ptr<Watchdog> watchdog, int rank, int size, int device,
                                                     Deadline deadline) {
  Store& store = *watchdog->store();
  const Seat mine = take_gpu(device);
  auto seats = exchange_seats("nccl", &store, rank, size, mine, deadline);
  std::vector<int> members;
  for (int r = 0; r < size; ++r) members.push_back(r);
  auto flight = std::make_shared<Flight>("world", members, rank, watchdog);

  const std::string key = fmt::format("nccl/{}/id", flight->name());
  std::string id;
  if (rank == 0) {
    ncclUniqueId unique;
    const auto made = ncclGetUniqueId(&unique);
    if (made != ncclSuccess) {
      const std::string why = nccl_sentence(made);
      store.set(key, "!" + why);
      fail_user("comm.transport is nccl, but rank 0 could not open a port for the others: {}", why);
    }
    id.assign(unique.internal, sizeof unique.internal);
    store.set(key, hex(id));
  } else {
    const std::string said = store.wait(key, "rank 0", deadline);
    if (said.starts_with("!")) {
      fail_user("comm.transport is nccl, but rank 0 could not open a port for the others: {}", said.substr(1));
    }
    id = from_hex(said);
  }
  auto engine = std::make_shared<NcclEngine>(device, flight);
  // A rank that fails tells the others, who would wait for it until the deadline.
  const std::string failed = fmt::format("nccl/{}/failed", flight->name());
  try {
    engine->connect(id, deadline, [&] { return store.get(failed).value_or(""); });
  } catch (const UserError&) {
    throw;
  } catch (const Error& e) {
    store.set(failed, e.what());
    throw;
  }
  return std::make_unique<NcclCommunicator>(device, std::move(seats), std::move(engine), flight);
}

}  // namespace dujiang::comm
