// Started by run_ranks.sh, one process for each rank: the unchanged hccl transport over the stand-in of HCCL and ACL.
// With an argument: many (communicators, one after the other) | large (more than 2^31 elements).
// The suite's two threads are left out: HCCL forbids that two operations use one device at the same time.

#include <cstring>
#include <string_view>
#include <thread>

#include "comm/host/host_group.h"
#include "hccl_rank.h"

using namespace dujiang;
using namespace dujiang::comm;

namespace {

std::int64_t* numbers(const std::shared_ptr<void>& memory) {
  return static_cast<std::int64_t*>(memory.get());
}

Buffer part(const std::shared_ptr<void>& memory, std::int64_t begin, std::int64_t count, const Communicator& c) {
  return {numbers(memory) + begin, count, Dtype::i64, c.device()};
}

// Rank s sends s + 2 r elements to r, of values that name both and the place.
void check_all_to_all(Communicator& c, Stream& stream) {
  const int p = c.size(), me = c.rank();
  const auto value = [](int from, int to, std::int64_t i) { return from * 1'000'000 + to * 1'000 + i; };
  std::vector<std::int64_t> send_counts, receive_counts;
  std::int64_t sent = 0, received = 0;
  for (int r = 0; r < p; ++r) {
    sent += send_counts.emplace_back(me + 2 * r);
    received += receive_counts.emplace_back(r + 2 * me);
  }
  const auto send = c.allocate(static_cast<std::size_t>(sent + 1) * 8);
  const auto receive = c.allocate(static_cast<std::size_t>(received + 1) * 8);
  std::int64_t at = 0;
  for (int r = 0; r < p; ++r) {
    for (std::int64_t i = 0; i < send_counts[static_cast<std::size_t>(r)]; ++i) numbers(send)[at++] = value(me, r, i);
  }
  numbers(receive)[received] = -7;
  c.all_to_all(part(send, 0, sent, c), part(receive, 0, received, c), {send_counts, receive_counts}, stream)
      .wait_host();
  at = 0;
  for (int r = 0; r < p; ++r) {
    for (std::int64_t i = 0; i < receive_counts[static_cast<std::size_t>(r)]; ++i, ++at) {
      DUJIANG_CHECK(numbers(receive)[at] == value(r, me, i), "all_to_all on rank {}: element {} from rank {} is {}", me,
                    i, r, numbers(receive)[at]);
    }
  }
  DUJIANG_CHECK(numbers(receive)[received] == -7, "all_to_all wrote behind its buffer");
}

// A ring with two messages to each neighbour, one to itself, and one longer than the stand-in's channels.
void check_messages(Communicator& c, Stream& stream) {
  const int p = c.size(), me = c.rank(), next = (me + 1) % p, previous = (me + p - 1) % p;
  const std::int64_t large = 50'000;
  const auto send = c.allocate(8 * static_cast<std::size_t>(large + 3)), receive = c.allocate(8 * (large + 3));
  for (std::int64_t i = 0; i < large + 3; ++i) numbers(send)[i] = me * 1'000'000 + i;
  using Kind = P2p::Kind;
  const std::vector<P2p> messages{
      {Kind::receive, part(receive, 0, large, c), previous}, {Kind::send, part(send, 0, large, c), next},
      {Kind::send, part(send, large, 2, c), next},           {Kind::receive, part(receive, large, 2, c), previous},
      {Kind::send, part(send, large + 2, 1, c), me},         {Kind::receive, part(receive, large + 2, 1, c), me}};
  c.batch_send_recv(messages, stream).wait_host();
  for (std::int64_t i = 0; i < large + 3; ++i) {
    const int from = i == large + 2 ? me : previous;
    DUJIANG_CHECK(numbers(receive)[i] == from * 1'000'000 + i, "batch_send_recv on rank {}: element {} is {}", me, i,
                  numbers(receive)[i]);
  }
}

// What is queued on another stream behind Work::wait comes after the operation, with no wait of the host between. The
// last rank comes late, so that the operation is still under way when the other stream's copy is queued.
void check_order_of_streams(Communicator& c) {
  AclStream first(c), second(c);
  const auto library = hccl::load_library();
  const std::size_t bytes = 800'000;
  const auto memory = c.allocate(bytes), copy = c.allocate(bytes);
  const Buffer sums = part(memory, 0, 100'000, c);
  c.all_reduce(sums, Reduce::sum, first).wait_host();  // the first use waits for the others on the host
  for (std::int64_t i = 0; i < sums.count; ++i) numbers(memory)[i] = 1 + i;
  if (c.rank() == c.size() - 1) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  const Work work = c.all_reduce(sums, Reduce::sum, first);
  Stream& behind = second;
  work.wait(behind);
  library->check_acl(library->aclrtMemcpyAsync(copy.get(), bytes, memory.get(), bytes, hccl::acl_copy_device_to_device,
                                               behind.handle()),
                     "aclrtMemcpyAsync");
  library->check_acl(library->aclrtSynchronizeStreamWithTimeout(behind.handle(), 60'000), "the second stream");
  for (std::int64_t i = 0; i < sums.count; ++i) {
    DUJIANG_CHECK(numbers(copy)[i] == (1 + i) * c.size(), "the copy overtook the operation: element {} is {}", i,
                  numbers(copy)[i]);
  }
  work.wait_host();
}

void check_records(Communicator& c, Stream& stream) {
  const OpStats before = c.stats(Op::barrier);
  for (int i = 0; i < 3; ++i) c.barrier(stream).wait_host();
  DUJIANG_CHECK(c.stats(Op::barrier).calls == before.calls + 3, "{} barriers counted", c.stats(Op::barrier).calls);
  const auto seen = c.flight()->snapshot();
  DUJIANG_CHECK(seen.pending.empty() && !seen.recent.empty() && seen.recent.back().signature.op == Op::barrier,
                "{} operations count as pending", seen.pending.size());
}

void check_refusals(Communicator& c, Stream& stream) {
  DUJIANG_CHECK(!c.promises_tree_order(), "HCCL promises no order");
  DUJIANG_CHECK(!c.supports(Op::all_reduce, Dtype::f32, Reduce::avg) && !c.supports(Op::reduce, Dtype::f64) &&
                    !c.supports(Op::reduce_scatter, Dtype::u8) && c.supports(Op::all_gather, Dtype::u8) &&
                    c.supports(Op::all_reduce, Dtype::bf16, Reduce::max),
                "supports() differs from what HCCL has");
  const auto memory = c.allocate(64);
  std::string said;
  try {
    (void)c.all_reduce({memory.get(), 4, Dtype::f32, c.device()}, Reduce::avg, stream);
  } catch (const Error& e) {
    said = e.what();
  }
  DUJIANG_CHECK(said.find("avg of f32 isn't supported") != std::string::npos, "the refusal says: {}", said);
}

// Every communicator gives back what it had; children may outlive their parent.
void check_loops(Communicator& world, const Setting& setting, int count) {
  for (int i = 0; i < count; ++i) {
    auto half = world.split(world.rank() % 2, world.rank());
    auto both = half->split(0, -half->rank());
    half.reset();
    const auto memory = both->allocate(8);
    numbers(memory)[0] = 3;
    Stream stream = setting.stream;
    both->all_reduce({memory.get(), 1, Dtype::i64, both->device()}, Reduce::sum, stream).wait_host();
    DUJIANG_CHECK(numbers(memory)[0] == 3 * both->size(), "the sum is {} in loop {}", numbers(memory)[0], i);
  }
}

}  // namespace

int main(int argc, char** argv) {
  return run_job([&] {
    const auto world = make_hccl_world();
    DUJIANG_CHECK(world->transport() == "hccl" && world->device().type == DeviceType::npu, "the transport is {}",
                  world->transport());
    DUJIANG_CHECK(world->local_size() == world->size() && world->local_rank() == world->rank(),
                  "rank {} of {} is {} of {} on its host; all ranks are on this host", world->rank(), world->size(),
                  world->local_rank(), world->local_size());
    AclStream stream(*world);
    const Setting setting = setting_of(*world, stream);
    const std::string_view part = argc > 1 ? argv[1] : "";
    if (part == "many") {
      check_many_communicators(*world, 1000, setting);
      return 0;
    }
    if (part == "large") {
      check_more_than_2_to_the_31(*world, setting);
      return 0;
    }
    check_operations(*world, setting);
    check_queued_operations(*world, setting);
    for (const std::size_t bytes : {HostGroup::small_bytes(world->size()), HostGroup::chunk_bytes(world->size())}) {
      check_chunk_boundaries(*world, static_cast<std::int64_t>(bytes), setting);
    }
    check_many_communicators(*world, 20, setting);
    check_split(*world, setting);
    check_all_to_all(*world, stream);
    check_messages(*world, stream);
    check_order_of_streams(*world);
    check_records(*world, stream);
    check_refusals(*world, stream);
    check_loops(*world, setting, 20);
    return 0;
  });
}
