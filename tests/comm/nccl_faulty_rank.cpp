// One rank of a job over the nccl transport that meets a fault: nccl_faults.sh injects it and reads what comes of it.
// Usage: nccl_faulty_rank WHAT TIMEOUT_MS: runs a few operations, WHAT being
//   operations | split | allocate | messages | throw (rank 1 leaves with an error) | late (rank 1 comes late)

#include <cstdio>
#include <stdexcept>
#include <thread>
#include <vector>

#include "comm/bootstrap.h"
#include "nccl_rank.h"

using namespace dujiang;
using namespace dujiang::comm;
using namespace std::chrono_literals;

namespace {

void run(const std::string& what, std::chrono::milliseconds timeout) {
  const NcclRank place;
  const auto watchdog = place.watchdog(timeout, true);
  const auto world =
      make_nccl_communicator(watchdog, place.rank, place.size, place.device, std::chrono::steady_clock::now() + 3s);
  if (what == "allocate") {
    (void)world->allocate(1 << 24);
    return;
  }
  if (what == "split") {
    (void)world->split(0, 0);
    return;
  }
  CudaStream stream(world->device());
  constexpr std::int64_t count = 5000;
  const auto memory = pinned_memory(2 * count * sizeof(float));
  auto* data = static_cast<float*>(memory.get());
  const Buffer buffer{data, count, Dtype::f32, world->device()};
  const Buffer other{data + count, count, Dtype::f32, world->device()};
  const int next = (place.rank + 1) % place.size, before = (place.rank + place.size - 1) % place.size;
  const std::vector<P2p> messages = {{P2p::Kind::send, buffer, next}, {P2p::Kind::receive, other, before}};
  for (int i = 0; i < 8; ++i) {
    if (what == "throw" && place.rank == 1 && i == 4) throw std::runtime_error("this rank left on purpose");
    if (what == "late" && place.rank == 1 && i == 4) std::this_thread::sleep_for(timeout / 2);
    const Work work =
        what == "messages" ? world->batch_send_recv(messages, stream) : world->all_reduce(buffer, Reduce::max, stream);
    try {
      work.wait_host();
    } catch (const Error&) {
      bool refused = false;
      try {
        world->barrier(stream);
      } catch (const Error& e) {
        refused = std::string(e.what()).find("an earlier operation failed") != std::string::npos;
      }
      std::printf("%s\n", refused ? "later calls are refused" : "a later call was taken");
      throw;
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 64;
  return run_job([&] {
    run(argv[1], std::chrono::milliseconds(std::atoi(argv[2])));
    std::printf("done\n");
    return 0;
  });
}
