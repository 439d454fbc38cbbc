// One rank of a job over the nccl transport, started by run_ranks.sh. Compiled against the stand-in and, as
// nccl_on_gpu, against the real libraries. Usage: nccl_ranks made | behaviour | hasty | conformance | many
// (communicators) | large (more than 2^31 elements) | gpus (prints how many there are; status 77 and why when none)

#include <cstdio>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

#include "comm/bootstrap.h"
#include "comm/host/host_group.h"
#include "conformance.h"
#include "nccl_rank.h"

using namespace dujiang;
using namespace dujiang::comm;
using namespace std::chrono_literals;

namespace {

#ifdef NCCL_RANKS_ON_GPU
constexpr bool on_gpu = true;
#else
constexpr bool on_gpu = false;
#endif

// `count` elements that the host and the GPU reach.
template <class T>
class Shared {
 public:
  Shared(Device device, std::int64_t count)
      : device_(device), count_(count), memory_(pinned_memory(static_cast<std::size_t>(count) * sizeof(T))) {
    std::memset(memory_.get(), 0, static_cast<std::size_t>(count) * sizeof(T));
  }
  T* data() { return static_cast<T*>(memory_.get()); }
  T& operator[](std::int64_t i) { return data()[i]; }
  Buffer buffer() { return {data(), count_, dtype_of<T>, device_}; }
  Buffer part(std::int64_t begin, std::int64_t count) { return {data() + begin, count, dtype_of<T>, device_}; }

 private:
  Device device_;
  std::int64_t count_;
  std::shared_ptr<void> memory_;
};

void check_cuda_call(cudaError_t error) {
  DUJIANG_CHECK(error == cudaSuccess, "CUDA error {}", static_cast<int>(error));
}

cudaStream_t handle(Stream& stream) {
  return static_cast<cudaStream_t>(stream.handle());
}

// Keeps a stream busy for a while.
void stall(Stream& stream, std::chrono::milliseconds time) {
  check_cuda_call(cudaLaunchHostFunc(
      handle(stream),
      [](void* data) {
        const auto* wanted = static_cast<std::chrono::milliseconds*>(data);
        std::this_thread::sleep_for(*wanted);
        delete wanted;
      },
      new std::chrono::milliseconds(time)));
}

template <class Body>
std::string refusal_of(const Body& body) {
  try {
    body();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

void expect(bool right, const char* claim) {
  DUJIANG_CHECK(right, "not true: {}", claim);
}

void tells_what_it_supports(Communicator& c) {
  expect(c.transport() == "nccl" && c.device().type == DeviceType::cuda, "it is nccl on cuda");
  expect(!c.promises_tree_order(), "the order of sums is NCCL's own");
  expect(c.local_size() == c.size() && c.local_rank() == c.rank(), "all ranks are on this host");
  expect(c.supports(Op::all_reduce, Dtype::bf16, Reduce::avg), "averages of bf16");
  expect(c.supports(Op::all_gather, Dtype::u16), "u16 moves");
  expect(!c.supports(Op::all_reduce, Dtype::u16), "no sums of u16");
  expect(!c.supports(Op::all_reduce, Dtype::i32, Reduce::avg), "no averages of integers");
  CudaStream stream(c.device());
  Shared<std::uint16_t> words(c.device(), 4);
  expect(refusal_of([&] {
           c.all_reduce(words.buffer(), Reduce::sum, stream);
         }).find("sum of u16 isn't supported by this transport") != std::string::npos,
         "sums of u16 are refused by name");
}

void moves_words(Communicator& c) {
  CudaStream stream(c.device());
  constexpr std::int64_t n = 1001;
  Shared<std::uint16_t> all(c.device(), n * c.size());
  for (std::int64_t i = 0; i < n; ++i) all[c.rank() * n + i] = static_cast<std::uint16_t>(c.rank() * 5000 + i);
  c.all_gather(all.part(c.rank() * n, n), all.buffer(), stream).wait_host();
  for (std::int64_t i = 0; i < n * c.size(); ++i) {
    expect(all[i] == static_cast<std::uint16_t>(i / n * 5000 + i % n), "gathered words are right");
  }
}

// Rank s sends s + 2 r + k elements of value 100 s + r + 1 to r; nothing for some pairs.
void exchanges_with_counts(Communicator& c) {
  const auto count = [](int s, int r) { return (s + r) % 3 == 1 ? 0 : s + 2 * r + 1; };
  std::vector<std::int64_t> send_counts, receive_counts;
  for (int r = 0; r < c.size(); ++r) {
    send_counts.push_back(count(c.rank(), r));
    receive_counts.push_back(count(r, c.rank()));
  }
  CudaStream stream(c.device());
  Shared<std::int64_t> send(c.device(), std::accumulate(send_counts.begin(), send_counts.end(), std::int64_t{0}) + 1);
  Shared<std::int64_t> receive(c.device(),
                               std::accumulate(receive_counts.begin(), receive_counts.end(), std::int64_t{0}) + 1);
  std::int64_t at = 0;
  for (int r = 0; r < c.size(); ++r) {
    for (std::int64_t i = 0; i < send_counts[static_cast<std::size_t>(r)]; ++i) send[at++] = 100 * c.rank() + r + 1;
  }
  const std::int64_t sent = at;
  at = std::accumulate(receive_counts.begin(), receive_counts.end(), std::int64_t{0});
  receive[at] = -1;
  c.all_to_all(send.part(0, sent), receive.part(0, at), {send_counts, receive_counts}, stream).wait_host();
  std::int64_t k = 0;
  for (int s = 0; s < c.size(); ++s) {
    for (std::int64_t i = 0; i < receive_counts[static_cast<std::size_t>(s)]; ++i, ++k) {
      expect(receive[k] == 100 * s + c.rank() + 1, "all_to_all brings everyone's elements in rank order");
    }
  }
  expect(receive[at] == -1, "all_to_all writes nothing else");
}

// Everyone to everyone and to itself at once, two messages each, larger than any internal buffer.
void sends_messages(Communicator& c) {
  constexpr std::int64_t n = 200'000;
  CudaStream stream(c.device());
  Shared<std::int32_t> out(c.device(), 2 * n), in(c.device(), 2 * n * c.size());
  for (std::int64_t i = 0; i < 2 * n; ++i) out[i] = static_cast<std::int32_t>(c.rank() * 1'000'000 + i);
  std::vector<P2p> messages;
  for (int peer = 0; peer < c.size(); ++peer) {
    for (int k = 0; k < 2; ++k) {
      messages.push_back({P2p::Kind::send, out.part(k * n, n), peer});
      messages.push_back({P2p::Kind::receive, in.part((2 * peer + k) * n, n), peer});
    }
  }
  c.batch_send_recv(messages, stream).wait_host();
  for (std::int64_t i = 0; i < 2 * n * c.size(); ++i) {
    expect(in[i] == static_cast<std::int32_t>(i / (2 * n) * 1'000'000 + i % (2 * n)), "messages arrive, in order");
  }
}

void follows_streams(Communicator& c) {
  CudaStream compute(c.device()), other(c.device());
  Shared<std::uint8_t> bytes(c.device(), 4096);
  if (c.rank() == c.size() - 1) stall(compute, 300ms);
  check_cuda_call(cudaMemsetAsync(bytes.data(), 7 + c.rank(), 4096, handle(compute)));
  const Work work = c.all_reduce(bytes.buffer(), Reduce::max, compute);
  if (c.rank() == c.size() - 1) expect(!work.query(), "an operation waits for what its stream does before");
  work.wait(other);
  Shared<std::uint8_t> seen(c.device(), 1);
  struct Copy {
    const std::uint8_t* from;
    std::uint8_t* to;
  } copy{bytes.data() + 4095, seen.data()};
  check_cuda_call(cudaLaunchHostFunc(
      handle(other),
      [](void* data) {
        const auto& wanted = *static_cast<Copy*>(data);
        *wanted.to = *wanted.from;
      },
      &copy));
  check_cuda_call(cudaStreamSynchronize(handle(other)));
  expect(seen[0] == 7 + c.size() - 1, "a stream that waits for an operation sees its result");
  work.wait_host();
  expect(work.query(), "a complete operation says so");
  expect(c.stats(Op::all_reduce).seconds > 0, "the time of operations is noted");
}

void allocates(std::unique_ptr<Communicator> c) {
  CudaStream stream(c->device());
  std::vector<std::shared_ptr<void>> kept;
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{1} << 20}) {
    kept.push_back(c->allocate(bytes));
  }
  const Buffer big{kept.back().get(), 1 << 18, Dtype::f32, c->device()};
  c->all_reduce(big, Reduce::sum, stream).wait_host();
  c->barrier(stream).wait_host();
  kept.front().reset();
  c.reset();  // the rest outlives it
}

void splits(Communicator& c) {
  CudaStream stream(c.device());
  Shared<std::int32_t> value(c.device(), 1);
  for (int i = 0; i < 5; ++i) {
    auto half = c.split(c.rank() % 2, -c.rank());
    auto none = c.split(c.rank() == 0 ? -1 : 5, 0);
    expect((none == nullptr) == (c.rank() == 0), "a negative colour is left out");
    auto nested = half->split(0, half->rank());
    half.reset();  // the parent may go first
    value[0] = 1;
    nested->all_reduce(value.buffer(), Reduce::sum, stream).wait_host();
    expect(value[0] == nested->size(), "a split of a split sums over its ranks");
    expect(nested->local_size() == nested->size() && nested->local_rank() == nested->rank(), "places in a split");
  }
}

// As the suite does, but without making memory meanwhile: this runs on GPUs, too.
void works_from_two_threads(Communicator& c) {
  const auto other = c.split(0, 0);
  const auto run = [](Communicator& own) {
    CudaStream stream(own.device());
    Shared<std::int32_t> values(own.device(), 300);
    for (int i = 1; i <= 50; ++i) {
      for (std::int64_t k = 0; k < 300; ++k) values[k] = i;
      own.all_reduce(values.buffer(), Reduce::sum, stream).wait_host();
      expect(values[0] == i * own.size() && values[299] == i * own.size(), "sums from two threads");
    }
  };
  std::exception_ptr failure;
  std::thread thread([&] {
    try {
      run(*other);
    } catch (...) {
      failure = std::current_exception();
    }
  });
  run(c);
  thread.join();
  if (failure) std::rethrow_exception(failure);
}

// A stream that doesn't get on: the operation behind it is given up, and the communicator with it.
void gives_up(const NcclRank& place, const std::shared_ptr<Watchdog>& hasty) {
  const auto c =
      make_nccl_communicator(hasty, place.rank, place.size, place.device, std::chrono::steady_clock::now() + 60s);
  CudaStream stream(c->device());
  Shared<float> values(c->device(), 100);
  c->all_reduce(values.buffer(), Reduce::sum, stream).wait_host();
  stall(stream, 3s);
  const Work work = c->all_reduce(values.buffer(), Reduce::sum, stream);
  const std::string why = refusal_of([&] { work.wait_host(); });
  expect(why.find("was not complete after") != std::string::npos || why.find("NCCL error 6") != std::string::npos,
         "an operation that takes too long is given up");
  expect(!refusal_of([&] { c->barrier(stream); }).empty(), "and its communicator refuses the next");
  expect(!refusal_of([&] { work.wait(stream); }).empty(), "an operation's error is thrown every time");
}

// With work under way, which may never be seen through.
void is_abandoned_by_an_error(Communicator& c) {
  CudaStream stream(c.device());
  Shared<float> values(c.device(), 100);
  const auto caught = refusal_of([&] {
    const auto child = c.split(0, 0);
    child->all_reduce(values.buffer(), Reduce::sum, stream).wait_host();
    stall(stream, 200ms);
    const Work work = child->all_reduce(values.buffer(), Reduce::sum, stream);
    fail("on purpose");
  });
  expect(caught == "on purpose", "an error passes a communicator with work under way");
}

// As programs make it: by its name, from what the launcher says.
void is_made_by_name() {
  const auto world = make_communicator({.transport = "nccl"});
  CudaStream stream(world->device());
  Shared<std::int32_t> value(world->device(), 1);
  value[0] = 1;
  world->all_reduce(value.buffer(), Reduce::sum, stream).wait_host();
  expect(world->transport() == "nccl" && value[0] == world->size(), "a communicator made by name sums over all ranks");
}

void conforms(Communicator& world, const std::string& what) {
  CudaStream stream(world.device());
  Setting setting{stream, pinned_memory};
  setting.exact = !on_gpu;  // NCCL promises no order
  if (what == "many") return check_many_communicators(world, 1000, setting);
  if (what == "large") return check_more_than_2_to_the_31(world, setting);
  check_operations(world, setting);
  check_queued_operations(world, setting);
  for (const std::size_t bytes : {HostGroup::small_bytes(world.size()), HostGroup::chunk_bytes(world.size())}) {
    check_chunk_boundaries(world, static_cast<std::int64_t>(bytes), setting);
  }
  check_split(world, setting);
  check_many_communicators(world, 20, setting);
  if (!on_gpu) {  // a GPU may stand still while memory is made and given up, and then one thread waits for the other
    setting.another_stream = [&world] {
      auto own = std::make_shared<CudaStream>(world.device());
      return std::shared_ptr<Stream>(own, &static_cast<Stream&>(*own));
    };
    check_two_threads(world, setting);
  }
}

int run(const std::string& what) {
  if (what == "made") {
    is_made_by_name();
    return 0;
  }
  const NcclRank place;
  int gpus = 0;
  const auto error = cudaGetDeviceCount(&gpus);
  if (error != cudaSuccess || gpus == 0) {
    std::printf("skipped: no GPU on this machine (CUDA error %d, %s)\n", static_cast<int>(error),
                cudaGetErrorString(error));
    return 77;
  }
  if (what == "gpus") {
    std::printf("%d\n", gpus);
    return 0;
  }
  const auto deadline = std::chrono::steady_clock::now() + 60s;
  if (what == "hasty") {
    gives_up(place, place.watchdog(1s, true));
    return 0;
  }
  const auto watchdog = place.watchdog(60s);
  auto world = make_nccl_communicator(watchdog, place.rank, place.size, place.device, deadline);
  if (what == "conformance" || what == "many" || what == "large") {
    conforms(*world, what);
    return 0;
  }
  tells_what_it_supports(*world);
  moves_words(*world);
  exchanges_with_counts(*world);
  sends_messages(*world);
  follows_streams(*world);
  splits(*world);
  works_from_two_threads(*world);
  allocates(world->split(0, 0));
  is_abandoned_by_an_error(*world);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 64;
  return run_job([&] { return run(argv[1]); });
}
