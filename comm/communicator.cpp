#include "comm/communicator.h"

#include <fmt/format.h>

#include <chrono>

#include "comm/watch/watchdog.h"
#include "framework/base/allocator.h"
#include "framework/base/check.h"

namespace dujiang::comm {

Buffer buffer_of(const View& view) {
  DUJIANG_CHECK(view.contiguous(), "a communication buffer must be contiguous, but this view is {}", view.str());
  return {view.data, view.count(), view.dtype, view.device};
}

Signature Request::signature() const {
  const bool varies = op == Op::all_to_all || op == Op::batch_send_recv || op == Op::barrier;
  return {op, send.dtype, reduce, root, varies ? 0 : send.count};
}

namespace {

// Adds the time that passes until its end to what callers spent waiting for `op`.
class Exposed {
 public:
  Exposed(Flight* flight, std::uint64_t id, Op op) : flight_(flight), id_(id), op_(op) {}
  ~Exposed() {
    if (flight_) flight_->add_exposed(id_, op_, std::chrono::duration<double>(Flight::Clock::now() - start_).count());
  }
  Exposed(const Exposed&) = delete;
  Exposed& operator=(const Exposed&) = delete;

 private:
  Flight* flight_;
  std::uint64_t id_;
  Op op_;
  Flight::Clock::time_point start_ = Flight::Clock::now();
};

}  // namespace

void Work::wait(Stream& stream) const {
  if (!state_) return;
  const Exposed time(flight_.get(), id_, op_);
  state_->wait(stream);
}
void Work::wait_host() const {
  if (!state_) return;
  const Exposed time(flight_.get(), id_, op_);
  state_->wait_host();
}
bool Work::query() const {
  return !state_ || state_->query();
}

Communicator::Communicator(Traits traits, Place place, std::shared_ptr<Flight> flight)
    : transport_(traits.transport),
      device_(traits.device),
      tree_order_(traits.tree_order),
      place_(place),
      flight_(std::move(flight)) {}

Communicator::~Communicator() = default;

std::string Communicator::who(Op op) const {
  return fmt::format("{} ({}, rank {} of {})", name_of(op), transport_, place_.rank, place_.size);
}

void Communicator::check(Op op, ConstBuffer buffer, const char* which, Reduce reduce, const Stream& stream) const {
  DUJIANG_CHECK(buffer.count >= 0, "{}: {} has a count of {}", who(op), which, buffer.count);
  DUJIANG_CHECK(buffer.data != nullptr || buffer.count == 0, "{}: {} of {} elements is null", who(op), which,
                buffer.count);
  DUJIANG_CHECK(buffer.device == device_, "{}: {} lies on {}, expected {}", who(op), which, buffer.device.str(),
                device_.str());
  DUJIANG_CHECK(stream.device() == device_, "{}: the stream is on {}, expected {}", who(op), stream.device().str(),
                device_.str());
  DUJIANG_CHECK(reinterpret_cast<std::uintptr_t>(buffer.data) % size_of(buffer.dtype) == 0,
                "{}: {} at {} isn't aligned to the {} bytes of {}", who(op), which, buffer.data, size_of(buffer.dtype),
                name_of(buffer.dtype));
  if (supports(op, buffer.dtype, reduce)) return;
  if (!reduces(op)) {
    fail("{}: dtype {} isn't supported by this transport", who(op), name_of(buffer.dtype));
  }
  fail("{}: {} of {} isn't supported by this transport", who(op), name_of(reduce), name_of(buffer.dtype));
}

void Communicator::check_root(Op op, int root) const {
  DUJIANG_CHECK(root >= 0 && root < size(), "{}: root is {}, expected 0 to {}", who(op), root, size() - 1);
}

void Communicator::check_overlap(Op op, ConstBuffer send, ConstBuffer receive, const void* in_place) const {
  const auto bytes = [](ConstBuffer b) { return static_cast<std::size_t>(b.count) * size_of(b.dtype); };
  const auto* s = static_cast<const char*>(send.data);
  const auto* r = static_cast<const char*>(receive.data);
  if (send.count == 0 || receive.count == 0) return;
  const bool apart = s + bytes(send) <= r || r + bytes(receive) <= s;
  const bool allowed = in_place != nullptr && (op == Op::all_gather ? send.data == in_place : receive.data == in_place);
  DUJIANG_CHECK(apart || allowed,
                "{}: send at {} and receive at {} overlap, but not as an operation in place does (expected {} at {})",
                who(op), send.data, receive.data, op == Op::all_gather ? "send" : "receive", in_place);
}

Work Communicator::start(Request request, ConstBuffer larger, Stream& stream) {
  const auto signature = request.signature();
  const auto entry =
      flight_->request(signature, static_cast<std::uint64_t>(larger.count) * size_of(larger.dtype), request.where);
  request.sequence = entry.sequence;
  request.id = entry.id;
  try {
    if (size() > 1 && flight_->watchdog()) flight_->watchdog()->agree(*flight_, entry);
    if (larger.count == 0 && signature.op != Op::all_to_all && signature.op != Op::barrier) {
      flight_->finish(entry.id);
      return Work();
    }
    Work work = do_start(std::move(request), stream);
    work.flight_ = flight_;
    work.id_ = entry.id;
    work.op_ = signature.op;
    return work;
  } catch (const std::exception& e) {
    flight_->fail(entry.id, e.what());
    throw;
  }
}

bool Communicator::supports(Op op, Dtype dtype, Reduce reduce) const {
  return op == Op::barrier || do_supports(op, dtype, reduce);
}

Work Communicator::all_reduce(Buffer buffer, Reduce reduce, Stream& stream, Where where) {
  return all_reduce(ConstBuffer(buffer), buffer, reduce, stream, where);
}

Work Communicator::all_reduce(ConstBuffer send, Buffer receive, Reduce reduce, Stream& stream, Where where) {
  constexpr Op op = Op::all_reduce;
  check(op, send, "send", reduce, stream);
  check(op, receive, "receive", reduce, stream);
  DUJIANG_CHECK(send.dtype == receive.dtype && send.count == receive.count,
                "{}: send is {} x {}, receive is {} x {}; expected the same", who(op), send.count, name_of(send.dtype),
                receive.count, name_of(receive.dtype));
  check_overlap(op, send, receive, send.data);
  return start({.op = op, .send = send, .receive = receive, .reduce = reduce, .where = where}, send, stream);
}

Work Communicator::reduce_scatter(ConstBuffer send, Buffer receive, Reduce reduce, Stream& stream, Where where) {
  constexpr Op op = Op::reduce_scatter;
  check(op, send, "send", reduce, stream);
  check(op, receive, "receive", reduce, stream);
  DUJIANG_CHECK(send.dtype == receive.dtype && send.count == receive.count * size(),
                "{}: send is {} x {}, receive is {} x {}; expected send to be {} times receive", who(op), send.count,
                name_of(send.dtype), receive.count, name_of(receive.dtype), size());
  if (send.count > 0) {
    const auto offset = static_cast<std::size_t>(rank() * receive.count) * size_of(send.dtype);
    check_overlap(op, send, receive, static_cast<const char*>(send.data) + offset);
  }
  return start({.op = op, .send = send, .receive = receive, .reduce = reduce, .where = where}, send, stream);
}

Work Communicator::all_gather(ConstBuffer send, Buffer receive, Stream& stream, Where where) {
  constexpr Op op = Op::all_gather;
  check(op, send, "send", Reduce::sum, stream);
  check(op, receive, "receive", Reduce::sum, stream);
  DUJIANG_CHECK(send.dtype == receive.dtype && receive.count == send.count * size(),
                "{}: send is {} x {}, receive is {} x {}; expected receive to be {} times send", who(op), send.count,
                name_of(send.dtype), receive.count, name_of(receive.dtype), size());
  if (send.count > 0) {
    const auto offset = static_cast<std::size_t>(rank() * send.count) * size_of(send.dtype);
    check_overlap(op, send, receive, static_cast<const char*>(receive.data) + offset);
  }
  return start({.op = op, .send = send, .receive = receive, .where = where}, receive, stream);
}

Work Communicator::broadcast(Buffer buffer, int root, Stream& stream, Where where) {
  constexpr Op op = Op::broadcast;
  check(op, buffer, "buffer", Reduce::sum, stream);
  check_root(op, root);
  return start({.op = op, .send = buffer, .receive = buffer, .root = root, .where = where}, buffer, stream);
}

Work Communicator::reduce(Buffer buffer, Reduce reduce, int root, Stream& stream, Where where) {
  return this->reduce(ConstBuffer(buffer), buffer, reduce, root, stream, where);
}

Work Communicator::reduce(ConstBuffer send, Buffer receive, Reduce reduce, int root, Stream& stream, Where where) {
  constexpr Op op = Op::reduce;
  check(op, send, "send", reduce, stream);
  check_root(op, root);
  if (rank() == root) {
    check(op, receive, "receive", reduce, stream);
    DUJIANG_CHECK(send.dtype == receive.dtype && send.count == receive.count,
                  "{}: send is {} x {}, receive is {} x {}; expected the same", who(op), send.count,
                  name_of(send.dtype), receive.count, name_of(receive.dtype));
    check_overlap(op, send, receive, send.data);
  } else {
    receive = {};
  }
  return start({.op = op, .send = send, .receive = receive, .reduce = reduce, .root = root, .where = where}, send,
               stream);
}

Work Communicator::all_to_all(ConstBuffer send, Buffer receive, const Counts& counts, Stream& stream, Where where) {
  constexpr Op op = Op::all_to_all;
  check(op, send, "send", Reduce::sum, stream);
  check(op, receive, "receive", Reduce::sum, stream);
  DUJIANG_CHECK(send.dtype == receive.dtype, "{}: send is of {}, receive of {}; expected the same", who(op),
                name_of(send.dtype), name_of(receive.dtype));
  const auto check_counts = [&](std::span<const std::int64_t> each, std::int64_t total, const char* which) {
    DUJIANG_CHECK(each.size() == static_cast<std::size_t>(size()), "{}: {} counts of {}, expected one for each of {}",
                  who(op), each.size(), which, size());
    std::int64_t sum = 0;
    for (const std::int64_t n : each) {
      DUJIANG_CHECK(n >= 0, "{}: a {} count is {}", who(op), which, n);
      sum += n;
    }
    DUJIANG_CHECK(sum == total, "{}: the {} counts sum up to {}, but the buffer has {} elements", who(op), which, sum,
                  total);
  };
  check_counts(counts.send, send.count, "send");
  check_counts(counts.receive, receive.count, "receive");
  const auto me = static_cast<std::size_t>(rank());
  DUJIANG_CHECK(counts.send[me] == counts.receive[me], "{}: {} elements for itself, but {} expected from itself",
                who(op), counts.send[me], counts.receive[me]);
  check_overlap(op, send, receive, nullptr);
  Request request{.op = op, .send = send, .receive = receive, .where = where};
  request.send_counts.assign(counts.send.begin(), counts.send.end());
  request.receive_counts.assign(counts.receive.begin(), counts.receive.end());
  return start(std::move(request), send.count > receive.count ? send : ConstBuffer(receive), stream);
}

Work Communicator::batch_send_recv(std::span<const P2p> messages, Stream& stream, Where where) {
  constexpr Op op = Op::batch_send_recv;
  std::int64_t bytes = 0;
  Request request{.op = op, .where = where};
  for (const P2p& m : messages) {
    check(op, m.buffer, m.kind == P2p::Kind::send ? "a send" : "a receive", Reduce::sum, stream);
    DUJIANG_CHECK(m.peer >= 0 && m.peer < size(), "{}: peer is {}, expected 0 to {}", who(op), m.peer, size() - 1);
    if (m.buffer.count == 0) continue;
    bytes += m.buffer.count * static_cast<std::int64_t>(size_of(m.buffer.dtype));
    request.messages.push_back(m);
  }
  return start(std::move(request), {nullptr, bytes, Dtype::u8, device_}, stream);
}

Work Communicator::barrier(Stream& stream, Where where) {
  return start({.op = Op::barrier, .where = where}, {}, stream);
}

std::shared_ptr<void> Communicator::zeroed_host_memory(std::size_t bytes) {
  return allocate_zeroed_host(bytes);
}

std::shared_ptr<void> Communicator::allocate(std::size_t bytes) {
  return do_allocate(bytes);
}

std::unique_ptr<Communicator> Communicator::split(int color, int key) {
  return do_split(color, key);
}

std::unique_ptr<Communicator> Communicator::split_by(const std::function<int(int rank)>& color_of) {
  return do_split_by(color_of);
}

std::unique_ptr<Communicator> Communicator::do_split_by(const std::function<int(int rank)>& color_of) {
  return do_split(color_of(rank()), rank());
}

}  // namespace dujiang::comm
