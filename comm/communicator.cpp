#include "comm/communicator.h"

#include <fmt/format.h>

#include "framework/base/check.h"

namespace dujiang::comm {

std::string_view name_of(Op op) {
  static constexpr std::string_view names[] = {"all_reduce", "reduce_scatter", "all_gather",
                                               "broadcast",  "reduce",         "barrier"};
  return names[static_cast<int>(op)];
}

std::string_view name_of(Reduce reduce) {
  static constexpr std::string_view names[] = {"sum", "max", "min", "avg"};
  return names[static_cast<int>(reduce)];
}

Buffer buffer_of(const View& view) {
  DUJIANG_CHECK(view.contiguous(), "a communication buffer must be contiguous, but this view is {}", view.str());
  return {view.data, view.count(), view.dtype, view.device};
}

void Work::wait(Stream& stream) const {
  if (state_) state_->wait(stream);
}
void Work::wait_host() const {
  if (state_) state_->wait_host();
}
bool Work::query() const {
  return !state_ || state_->query();
}

Communicator::Communicator(std::string_view transport, Device device, Place place)
    : transport_(transport), device_(device), place_(place) {}

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
  if (op == Op::all_gather || op == Op::broadcast) {
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
  if (send.count == 0 || receive.count == 0 || in_place == nullptr) return;
  const bool apart = s + bytes(send) <= r || r + bytes(receive) <= s;
  const bool allowed = op == Op::all_gather ? send.data == in_place : receive.data == in_place;
  DUJIANG_CHECK(apart || allowed,
                "{}: send at {} and receive at {} overlap, but not as an operation in place does (expected {} at {})",
                who(op), send.data, receive.data, op == Op::all_gather ? "send" : "receive", in_place);
}

void Communicator::count(Op op, ConstBuffer larger) {
  auto& counter = counters_[static_cast<std::size_t>(op)];
  counter.calls += 1;
  counter.bytes += static_cast<std::uint64_t>(larger.count) * size_of(larger.dtype);
}

void Communicator::add_seconds(Op op, double seconds) {
  counters_[static_cast<std::size_t>(op)].nanoseconds += static_cast<std::uint64_t>(seconds * 1e9);
}

OpStats Communicator::stats(Op op) const {
  const auto& counter = counters_[static_cast<std::size_t>(op)];
  return {counter.calls, counter.bytes, static_cast<double>(counter.nanoseconds) * 1e-9};
}

bool Communicator::supports(Op op, Dtype dtype, Reduce reduce) const {
  return op == Op::barrier || do_supports(op, dtype, reduce);
}

Work Communicator::all_reduce(Buffer buffer, Reduce reduce, Stream& stream) {
  return all_reduce(ConstBuffer(buffer), buffer, reduce, stream);
}

Work Communicator::all_reduce(ConstBuffer send, Buffer receive, Reduce reduce, Stream& stream) {
  constexpr Op op = Op::all_reduce;
  check(op, send, "send", reduce, stream);
  check(op, receive, "receive", reduce, stream);
  DUJIANG_CHECK(send.dtype == receive.dtype && send.count == receive.count,
                "{}: send is {} x {}, receive is {} x {}; expected the same", who(op), send.count, name_of(send.dtype),
                receive.count, name_of(receive.dtype));
  check_overlap(op, send, receive, send.data);
  count(op, send);
  return send.count == 0 ? Work() : do_all_reduce(send, receive, reduce, stream);
}

Work Communicator::reduce_scatter(ConstBuffer send, Buffer receive, Reduce reduce, Stream& stream) {
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
  count(op, send);
  return send.count == 0 ? Work() : do_reduce_scatter(send, receive, reduce, stream);
}

Work Communicator::all_gather(ConstBuffer send, Buffer receive, Stream& stream) {
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
  count(op, receive);
  return send.count == 0 ? Work() : do_all_gather(send, receive, stream);
}

Work Communicator::broadcast(Buffer buffer, int root, Stream& stream) {
  constexpr Op op = Op::broadcast;
  check(op, buffer, "buffer", Reduce::sum, stream);
  check_root(op, root);
  count(op, buffer);
  return buffer.count == 0 ? Work() : do_broadcast(buffer, root, stream);
}

Work Communicator::reduce(Buffer buffer, Reduce reduce, int root, Stream& stream) {
  return this->reduce(ConstBuffer(buffer), buffer, reduce, root, stream);
}

Work Communicator::reduce(ConstBuffer send, Buffer receive, Reduce reduce, int root, Stream& stream) {
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
  count(op, send);
  return send.count == 0 ? Work() : do_reduce(send, receive, reduce, root, stream);
}

Work Communicator::barrier(Stream& stream) {
  count(Op::barrier, {});
  return do_barrier(stream);
}

std::unique_ptr<Communicator> Communicator::split(int color, int key) {
  return do_split(color, key);
}

}  // namespace dujiang::comm
