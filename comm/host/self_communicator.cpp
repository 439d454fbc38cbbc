#include "comm/host/self_communicator.h"

#include <cstring>

#include "comm/host/tree_reduce.h"
#include "framework/base/check.h"

namespace dujiang::comm {
namespace {

class SelfCommunicator final : public Communicator {
 public:
  explicit SelfCommunicator(std::shared_ptr<Flight> flight)
      : Communicator({"self", Device{}}, Place{}, std::move(flight)) {}

 private:
  static void copy(ConstBuffer from, const Buffer& to) {
    if (from.data == to.data || from.count == 0) return;
    std::memcpy(to.data, from.data, static_cast<std::size_t>(from.count) * size_of(from.dtype));
  }

  // The k-th send meets the k-th receive.
  static void exchange(const std::vector<P2p>& messages) {
    std::vector<const P2p*> sends, receives;
    for (const P2p& m : messages) (m.kind == P2p::Kind::send ? sends : receives).push_back(&m);
    DUJIANG_CHECK(sends.size() == receives.size(), "batch_send_recv (self): {} sends and {} receives", sends.size(),
                  receives.size());
    for (std::size_t i = 0; i < sends.size(); ++i) {
      const Buffer &from = sends[i]->buffer, &to = receives[i]->buffer;
      DUJIANG_CHECK(from.count == to.count && from.dtype == to.dtype,
                    "batch_send_recv (self): message {} is sent as {} x {}, received as {} x {}", i, from.count,
                    name_of(from.dtype), to.count, name_of(to.dtype));
      copy(from, to);
    }
  }

  Work do_start(Request request, Stream&) override {
    flight()->start(request.id);
    if (request.op == Op::batch_send_recv) {
      exchange(request.messages);
    } else if (request.op != Op::barrier) {
      copy(request.send, request.receive);
    }
    flight()->finish(request.id);
    return Work();
  }
  bool do_supports(Op op, Dtype dtype, Reduce reduce) const override {
    return !reduces(op) || can_reduce(dtype, reduce);
  }
  std::shared_ptr<void> do_allocate(std::size_t bytes) override { return zeroed_host_memory(bytes); }
  std::unique_ptr<Communicator> do_split(int color, int) override {
    auto child = flight()->child(color, color < 0 ? std::vector<int>() : std::vector<int>{0});
    return child ? std::make_unique<SelfCommunicator>(std::move(child)) : nullptr;
  }
};

}  // namespace

std::unique_ptr<Communicator> make_self_communicator() {
  return std::make_unique<SelfCommunicator>(std::make_shared<Flight>("world", std::vector<int>{0}, 0));
}

}  // namespace dujiang::comm
