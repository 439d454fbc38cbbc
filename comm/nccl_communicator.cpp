#include "comm/nccl_communicator.h"

#include <cuda_runtime_api.h>
#include <nccl.h>
#include <unistd.h>

#include <algorithm>
#include <exception>
#include <fstream>
#include <sstream>
#include <thread>

#include "comm/nccl_check.h"
#include "comm/nccl_engine.h"

namespace dujiang::comm {
namespace {

using namespace std::chrono_literals;

// What a rank tells the others of itself before they connect.
struct Seat {
  std::string host, gpu;     // gpu: its address on the PCI bus
  std::string boot;          // of the host: tells apart hosts of one name
  int visible = 0;           // GPUs this process sees
  int device = 0, nccl = 0;  // version
  std::string refusal;       // why this rank can't take part

  std::string str() const {
    return fmt::format("{}\n{}\n{}\n{} {} {}\n{}", host, boot, gpu, visible, device, nccl, refusal);
  }
  static Seat parse(const std::string& text) {
    Seat seat;
    std::istringstream in(text);
    std::getline(in, seat.host);
    std::getline(in, seat.boot);
    std::getline(in, seat.gpu);
    in >> seat.visible >> seat.device >> seat.nccl >> std::ws;
    std::getline(in, seat.refusal);
    return seat;
  }
  bool same_host(const Seat& other) const { return host == other.host && boot == other.boot; }
};

Seat take_seat(int device) {
  Seat seat;
  char name[256] = {};
  (void)gethostname(name, sizeof name - 1);
  seat.host = name;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> seat.boot;
  const auto error = cudaGetDeviceCount(&seat.visible);
  if (error != cudaSuccess || seat.visible == 0) {
    seat.refusal = fmt::format("found no GPU ({}); check nvidia-smi and CUDA_VISIBLE_DEVICES",
                               error != cudaSuccess ? cuda_sentence(error) : "CUDA sees 0 devices");
    return seat;
  }
  // A launcher may show each rank its own GPU only.
  seat.device = seat.visible == 1 ? 0 : device;
  if (seat.device >= seat.visible) {
    seat.refusal = fmt::format("would use GPU {}, but sees {}; start at most one rank for each GPU of a host",
                               seat.device, seat.visible);
    return seat;
  }
  char address[32] = {};
  const auto addressed = cudaDeviceGetPCIBusId(address, sizeof address, seat.device);
  const auto chosen = addressed == cudaSuccess ? cudaSetDevice(seat.device) : addressed;
  seat.gpu = address;
  if (chosen != cudaSuccess) seat.refusal = fmt::format("can't use GPU {}: {}", seat.device, cuda_sentence(chosen));
  const auto version = ncclGetVersion(&seat.nccl);
  if (version != ncclSuccess) seat.refusal = fmt::format("has no working NCCL: {}", nccl_sentence(version));
  return seat;
}

// Every rank sees all seats, so that all end with the same message.
void check_seats(const std::vector<Seat>& seats) {
  constexpr auto what = "comm.transport is nccl, but";
  for (std::size_t r = 0; r < seats.size(); ++r) {
    const Seat& seat = seats[r];
    if (!seat.refusal.empty()) fail_user("{} rank {} on host {} {}", what, r, seat.host, seat.refusal);
    if (seat.nccl != seats[0].nccl) {
      fail_user("{} rank 0 on host {} has NCCL {} and rank {} on host {} has NCCL {}: install the same on all hosts",
                what, seats[0].host, seats[0].nccl, r, seat.host, seat.nccl);
    }
    for (std::size_t s = 0; s < r; ++s) {
      if (!seat.same_host(seats[s]) || seat.gpu != seats[s].gpu) continue;
      fail_user(
          "{} ranks {} and {} are both on GPU {} of host {}, where rank {} sees {} GPU{}: NCCL refuses two ranks on "
          "one "
          "GPU; start at most one rank for each",
          what, s, r, seat.gpu, seat.host, r, seat.visible, seat.visible == 1 ? "" : "s");
    }
  }
}

Place place_of(const std::vector<Seat>& seats, const std::vector<int>& members, int rank) {
  Place place{rank, static_cast<int>(members.size()), 0, 0};
  const auto seat = [&](std::size_t i) -> const Seat& { return seats[static_cast<std::size_t>(members[i])]; };
  for (std::size_t i = 0; i < members.size(); ++i) {
    if (!seat(i).same_host(seat(static_cast<std::size_t>(rank)))) continue;
    place.local_size += 1;
    if (static_cast<int>(i) < rank) place.local_rank += 1;
  }
  return place;
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
      : Communicator({"nccl", {DeviceType::cuda, device}, false}, place_of(seats, flight->members(), flight->rank()),
                     flight),
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
    const auto& watchdog = *flight()->watchdog();
    const auto timeout = watchdog.timeout();
    const auto deadline = Flight::Clock::now() + (timeout > 0ms ? timeout : std::chrono::milliseconds(24h));
    const auto all = watchdog.store()->exchange(fmt::format("nccl/{}/split/{}", flight()->name(), splits_++), rank(),
                                                size(), fmt::format("{} {}", color, key), deadline);
    std::vector<int> colors, keys, members;
    for (const std::string& text : all) {
      std::istringstream in(text);
      in >> colors.emplace_back() >> keys.emplace_back();
    }
    for (int r = 0; r < size() && color >= 0; ++r) {
      if (colors[static_cast<std::size_t>(r)] == color) members.push_back(r);
    }
    std::stable_sort(members.begin(), members.end(), [&](int a, int b) {
      return keys[static_cast<std::size_t>(a)] < keys[static_cast<std::size_t>(b)];
    });
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
  std::vector<Seat> seats;
  for (const auto& text : store.exchange("nccl/world/seat", rank, size, take_seat(device).str(), deadline)) {
    seats.push_back(Seat::parse(text));
  }
  check_seats(seats);
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
  const int mine = seats[static_cast<std::size_t>(rank)].device;
  auto engine = std::make_shared<NcclEngine>(mine, flight);
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
  return std::make_unique<NcclCommunicator>(mine, std::move(seats), std::move(engine), flight);
}

}  // namespace dujiang::comm
