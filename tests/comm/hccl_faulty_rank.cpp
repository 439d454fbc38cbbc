// A rank over the HCCL stand-in that meets a fault: hccl_faults.sh says which, and reads what comes of it.

#include <string_view>
#include <thread>

#include "hccl_rank.h"

using namespace dujiang;
using namespace dujiang::comm;

namespace {

void sums(Communicator& c, Stream& stream, int count, std::int64_t elements) {
  const auto memory = c.allocate(static_cast<std::size_t>(elements) * 4);
  for (int i = 0; i < count; ++i) {
    c.all_reduce({memory.get(), elements, Dtype::f32, c.device()}, Reduce::sum, stream).wait_host();
  }
}

// After a failure the communicator says so at once, its Work repeats why, and its end doesn't hang.
void poisoned(Communicator& c, Stream& stream) {
  const auto memory = c.allocate(4096);
  const Buffer buffer{memory.get(), 1024, Dtype::f32, c.device()};
  std::vector<Work> works;
  std::string first, again, later;
  const auto what_of = [](const auto& body) {
    try {
      body();
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("nothing");
  };
  // Both are queued before the first fails.
  works.push_back(c.all_reduce(buffer, Reduce::sum, stream));
  try {
    works.push_back(c.all_reduce(buffer, Reduce::max, stream));
  } catch (const Error&) {
  }
  first = what_of([&] { works.front().wait_host(); });
  again = what_of([&] { works.front().wait(stream); });
  const auto begin = std::chrono::steady_clock::now();
  later = what_of([&] { (void)c.barrier(stream); });
  DUJIANG_CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(2), "the refusal took long");
  DUJIANG_CHECK(works.front().query(), "a failed operation isn't complete");
  DUJIANG_CHECK(first == again && first.find("HCCL_E_REMOTE") != std::string::npos, "first: {}; again: {}", first,
                again);
  DUJIANG_CHECK(later.find("refused, because an earlier operation failed: " + first) != std::string::npos, "later: {}",
                later);
  fmt::print("poisoned as it should be\n");
}

void run(Communicator& c, std::string_view mode) {
  AclStream stream(c);
  if (mode == "sums") return sums(c, stream, 5, 1024);
  if (mode == "poisoned") return poisoned(c, stream);
  if (mode == "split") return (void)c.split(0, 0);
  if (mode == "broadcast") {
    const auto memory = c.allocate(64);
    return c.broadcast({memory.get(), 8, Dtype::f32, c.device()}, 0, stream).wait_host();
  }
  if (mode == "late") {  // the first use of an operation waits on the host until all have called it
    if (c.rank() == 1) std::this_thread::sleep_for(std::chrono::seconds(60));
    return sums(c, stream, 1, 8);
  }
  if (mode == "lengths") return sums(c, stream, 1, c.rank() == 1 ? 9 : 8);
  if (mode == "throw") {  // an error passes the communicator while its operations wait for others
    const auto memory = c.allocate(64);
    if (c.rank() == 0) return sums(c, stream, 2, 8);
    sums(c, stream, 1, 8);
    fail("rank 1 has a reason of its own");
  }
  if (mode == "large") {
    const auto memory = c.allocate(64);
    return (void)c.broadcast({memory.get(), std::int64_t{1} << 36, Dtype::u8, c.device()}, 0, stream);
  }
  if (mode == "default_stream") {
    const auto memory = c.allocate(64);
    Stream none(c.device());
    return (void)c.broadcast({memory.get(), 8, Dtype::f32, c.device()}, 0, none);
  }
  fail_user("no mode {}", mode);
}

}  // namespace

int main(int, char** argv) {
  return run_job([&] {
    const auto world = make_hccl_world();
    run(*world, argv[1]);
    return 0;
  });
}
