#include "comm/host/rehearsal_communicator.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "comm/host/tree_reduce.h"
#include "framework/base/check.h"
#include "framework/base/rehearsal.h"

namespace dujiang::comm {
namespace {

// Larger results are left as they are: they lie in a rehearsal's memory, which should stay untouched.
constexpr std::size_t repeated_bytes = std::size_t{1} << 20;

class Ending final : public Work::State {
 public:
  Ending(double time, Rehearsal::Transfers* transfers) : time_(time), transfers_(transfers) {}
  void wait(Stream&) override { wait_host(); }
  void wait_host() override { transfers_->exposed_seconds += rehearsal()->wait_until(time_); }
  bool query() override { return rehearsal()->now() >= time_; }

  static Rehearsal* rehearsal() {
    DUJIANG_CHECK(Rehearsal::current() != nullptr, "transport rehearsal: used outside of a rehearsal");
    return Rehearsal::current();
  }

 private:
  double time_;
  Rehearsal::Transfers* transfers_;  // the rehearsal's
};

Place place_of(const Flight& flight, const Links& links) {
  const auto& members = flight.members();
  Place place{.rank = flight.rank(), .size = static_cast<int>(members.size()), .local_rank = 0, .local_size = 0};
  const int node = members[static_cast<std::size_t>(place.rank)] / links.node_ranks;
  for (int i = 0; i < place.size; ++i) {
    if (members[static_cast<std::size_t>(i)] / links.node_ranks != node) continue;
    if (i < place.rank) ++place.local_rank;
    ++place.local_size;
  }
  return place;
}

class RehearsalCommunicator final : public Communicator {
 public:
  RehearsalCommunicator(const std::shared_ptr<Flight>& flight, const Links& links)
      : Communicator({"rehearsal", Device{}}, place_of(*flight, links), flight), links_(links) {}

 private:
  Work do_start(Request request, Stream&) override {
    Rehearsal* const rehearsal = Ending::rehearsal();
    flight()->start(request.id);
    if (request.op == Op::all_gather) repeat(request);
    double bytes = static_cast<double>(std::max(request.send.count, request.receive.count)) *
                   static_cast<double>(size_of(request.send.dtype));
    if (request.op == Op::batch_send_recv) {
      bytes = 0;
      for (const P2p& m : request.messages)
        if (m.kind == P2p::Kind::send)
          bytes += static_cast<double>(m.buffer.count) * static_cast<double>(size_of(m.buffer.dtype));
    }
    const double seconds = collective_seconds(request.op, bytes, flight()->members(), links_);
    // One after the other, as a transport runs them.
    idle_at_ = std::max(idle_at_, rehearsal->now()) + seconds;
    auto& transfers = rehearsal->transfers(flight()->name(), std::string(name_of(request.op)));
    ++transfers.calls;
    transfers.bytes += bytes;
    transfers.seconds += seconds;
    flight()->finish(request.id);
    return Work(std::make_shared<Ending>(idle_at_, &transfers));
  }

  void repeat(const Request& request) const {
    const std::size_t each = static_cast<std::size_t>(request.send.count) * size_of(request.send.dtype);
    if (each * static_cast<std::size_t>(size()) > repeated_bytes) return;
    for (int r = 0; r < size(); ++r)
      std::memmove(static_cast<char*>(request.receive.data) + static_cast<std::size_t>(r) * each, request.send.data,
                   each);
  }

  bool do_supports(Op op, Dtype dtype, Reduce reduce) const override {
    return !reduces(op) || can_reduce(dtype, reduce);
  }
  std::shared_ptr<void> do_allocate(std::size_t bytes) override {
    // Shared within a host, byte for byte; ordinary memory otherwise.
    return size() == 1 || local_size() < size()
               ? zeroed_host_memory(bytes)
               : Ending::rehearsal()->allocate(std::max<std::size_t>(bytes, 4096), true);
  }
  std::unique_ptr<Communicator> do_split(int, int) override {
    fail("transport rehearsal: split() doesn't know the other ranks' colours; split_by() does");
  }
  std::unique_ptr<Communicator> do_split_by(const std::function<int(int rank)>& color_of) override {
    const int color = color_of(rank());
    std::vector<int> members;
    for (int r = 0; r < size() && color >= 0; ++r)
      if (color_of(r) == color) members.push_back(r);
    const auto child = flight()->child(color, members);
    return child ? std::make_unique<RehearsalCommunicator>(child, links_) : nullptr;
  }

  Links links_;
  double idle_at_ = 0;
};

}  // namespace

double collective_seconds(Op op, double bytes, const std::vector<int>& members, const Links& links) {
  const auto n = static_cast<double>(members.size());
  if (members.size() < 2) return 0;
  std::vector<int> nodes;
  for (const int rank : members) nodes.push_back(rank / links.node_ranks);
  std::sort(nodes.begin(), nodes.end());
  int largest = 0;
  for (std::size_t i = 0, first = 0; i < nodes.size(); ++i) {
    if (nodes[i] != nodes[first]) first = i;
    largest = std::max(largest, static_cast<int>(i - first) + 1);
  }
  const auto node_count = static_cast<double>(std::unique(nodes.begin(), nodes.end()) - nodes.begin());
  const double rate = node_count > 1 ? std::min(links.inside_bytes, links.across_bytes * largest) : links.inside_bytes;
  // Steps in sequence: a ring inside a node, a tree between nodes.
  const double latency = (largest - 1) * links.inside_latency + std::ceil(std::log2(node_count)) * links.across_latency;
  const double around = (n - 1) / n * bytes / rate;
  switch (op) {
    case Op::all_reduce:
      return 2 * around + 2 * latency;
    case Op::reduce_scatter:
    case Op::all_gather:
    case Op::all_to_all:
      return around + latency;
    case Op::broadcast:
    case Op::reduce:
    case Op::batch_send_recv:
      return bytes / rate + latency;
    case Op::barrier:
      return 2 * latency;
  }
  fail("collective_seconds: unknown operation");
}

std::unique_ptr<Communicator> make_rehearsal_communicator(int rank, int size, const Links& links) {
  DUJIANG_CHECK(rank >= 0 && rank < size && links.node_ranks > 0, "rehearsal: rank {} of {} in nodes of {}", rank, size,
                links.node_ranks);
  std::vector<int> members(static_cast<std::size_t>(size));
  std::iota(members.begin(), members.end(), 0);
  return std::make_unique<RehearsalCommunicator>(std::make_shared<Flight>("world", std::move(members), rank), links);
}

}  // namespace dujiang::comm
