#include "comm/thread_communicator.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>
#include <tuple>

#include "comm/slices.h"
#include "comm/tree_reduce.h"
#include "comm/worker.h"
#include "framework/base/check.h"

namespace dujiang::comm {
namespace {

// What ranks get when another one failed: never the cause itself.
class Abandoned : public Error {
 public:
  using Error::Error;
};

// Where the ranks of one communicator meet.
class Hub {
 public:
  explicit Hub(int size) : requests(size), colors(size), keys(size), hubs(size), size_(size) {}

  // Each rank writes its own entry before a meeting and reads the others' after it.
  std::vector<Request> requests;
  std::vector<int> colors, keys;
  std::vector<std::shared_ptr<Hub>> hubs;

  int size() const { return size_; }

  void meet() {
    std::unique_lock lock(mutex_);
    if (broken_.empty() && ++arrived_ == size_) {
      arrived_ = 0;
      ++generation_;
      changed_.notify_all();
      return;
    }
    const auto generation = generation_;
    changed_.wait(lock, [&] { return generation != generation_ || !broken_.empty(); });
    if (generation == generation_) throw Abandoned(broken_);
  }

  // Every meeting that isn't complete fails from now on.
  void abandon(const std::string& why) {
    const std::lock_guard lock(mutex_);
    if (broken_.empty()) broken_ = why;
    changed_.notify_all();
  }

 private:
  const int size_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int arrived_ = 0;
  std::uint64_t generation_ = 0;
  std::string broken_;
};

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<Hub> hub, int rank, std::shared_ptr<Flight> flight)
      : Communicator({"thread", Device{}}, Place{rank, hub->size(), rank, hub->size()}, std::move(flight)),
        hub_(std::move(hub)),
        exceptions_(std::uncaught_exceptions()) {}

  ~ThreadCommunicator() override {
    if (std::uncaught_exceptions() > exceptions_) {
      hub_->abandon(fmt::format("rank {} of {} left with an error", rank(), size()));
    }
  }

 private:
  Work do_start(Request request, Stream&) override {
    return worker_.submit([this, request] {
      flight()->start(request.id);
      try {
        hub_->requests[static_cast<std::size_t>(rank())] = request;
        hub_->meet();
        check_agreement();
        run(request);
        hub_->meet();  // nobody may touch a buffer that others still read
      } catch (const std::exception& e) {
        hub_->abandon(e.what());
        flight()->fail(request.id, e.what());
        throw;
      }
      flight()->finish(request.id);
    });
  }

  void check_agreement() {
    const Request& first = hub_->requests[0];
    for (int r = 1; r < size(); ++r) {
      const Request& other = hub_->requests[static_cast<std::size_t>(r)];
      DUJIANG_CHECK(first.signature() == other.signature(), "ranks disagree: rank 0 asks for {}, rank {} for {}",
                    first.signature().str(), r, other.signature().str());
    }
  }

  static char* at(const void* data, std::int64_t element, Dtype dtype) {
    return const_cast<char*>(static_cast<const char*>(data)) + element * static_cast<std::int64_t>(size_of(dtype));
  }

  // Elements [begin, begin + count) of everyone's send, reduced into `out`.
  void reduce_range(const Request& q, std::int64_t begin, std::int64_t count, void* out) {
    std::vector<const void*> sources;
    for (const auto& request : hub_->requests) sources.push_back(at(request.send.data, begin, q.send.dtype));
    reduce_tree(q.send.dtype, q.reduce, sources.data(), size(), out, count);
  }

  // Each rank works on its own slice, which no other rank reads or writes meanwhile.
  void run(const Request& q) {
    const Dtype dtype = q.send.dtype;
    const auto bytes = [&](std::int64_t count) { return static_cast<std::size_t>(count) * size_of(dtype); };
    const Slices mine = Slices::of(q.send.count, size(), q.send.count);
    const std::int64_t begin = mine.offset(rank(), 0), length = mine.length(rank(), 0);
    switch (q.op) {
      case Op::all_reduce: {
        if (length == 0) return;
        char* out = at(q.receive.data, begin, dtype);
        reduce_range(q, begin, length, out);
        for (int r = 0; r < size(); ++r) {
          if (r == rank()) continue;
          std::memcpy(at(hub_->requests[static_cast<std::size_t>(r)].receive.data, begin, dtype), out, bytes(length));
        }
        return;
      }
      case Op::reduce:
        if (length == 0) return;
        return reduce_range(q, begin, length,
                            at(hub_->requests[static_cast<std::size_t>(q.root)].receive.data, begin, dtype));
      case Op::reduce_scatter:
        return reduce_range(q, rank() * q.receive.count, q.receive.count, q.receive.data);
      case Op::all_gather:
        for (int r = 0; r < size(); ++r) {
          const void* from = hub_->requests[static_cast<std::size_t>(r)].send.data;
          char* to = at(q.receive.data, r * q.send.count, dtype);
          if (from != to) std::memcpy(to, from, bytes(q.send.count));
        }
        return;
      case Op::broadcast:
        if (rank() == q.root) return;
        std::memcpy(q.receive.data, hub_->requests[static_cast<std::size_t>(q.root)].send.data, bytes(q.send.count));
        return;
      default:
        return;
    }
  }

  bool do_supports(Op op, Dtype dtype, Reduce reduce) const override {
    return !reduces(op) || can_reduce(dtype, reduce);
  }
  std::shared_ptr<void> do_allocate(std::size_t bytes) override { return zeroed_host_memory(bytes); }

  std::unique_ptr<Communicator> do_split(int color, int key) override {
    std::vector<int> members;
    const auto me = static_cast<std::size_t>(rank());
    worker_
        .submit([&] {
          hub_->colors[me] = color;
          hub_->keys[me] = key;
          hub_->meet();
          for (int r = 0; r < size() && color >= 0; ++r) {
            if (hub_->colors[static_cast<std::size_t>(r)] == color) members.push_back(r);
          }
          std::stable_sort(members.begin(), members.end(), [this](int a, int b) {
            return hub_->keys[static_cast<std::size_t>(a)] < hub_->keys[static_cast<std::size_t>(b)];
          });
          if (!members.empty() && members.front() == rank()) {
            hub_->hubs[me] = std::make_shared<Hub>(static_cast<int>(members.size()));
          }
          hub_->meet();
        })
        .wait_host();
    std::shared_ptr<Hub> hub;
    if (!members.empty()) hub = hub_->hubs[static_cast<std::size_t>(members.front())];
    worker_.submit([this] { hub_->meet(); }).wait_host();  // everyone has its hub before the next split
    auto child = flight()->child(color, members);
    if (!hub) return nullptr;
    const auto position = std::find(members.begin(), members.end(), rank()) - members.begin();
    return std::make_unique<ThreadCommunicator>(std::move(hub), static_cast<int>(position), std::move(child));
  }

  const std::shared_ptr<Hub> hub_;
  const int exceptions_;
  Worker worker_;  // last: it is joined before what its tasks use goes
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> make_thread_communicators(int size) {
  DUJIANG_CHECK(size > 0, "a group of {} threads", size);
  auto hub = std::make_shared<Hub>(size);
  std::vector<std::unique_ptr<Communicator>> group;
  std::vector<int> members;
  for (int r = 0; r < size; ++r) members.push_back(r);
  for (int r = 0; r < size; ++r) {
    group.push_back(std::make_unique<ThreadCommunicator>(hub, r, std::make_shared<Flight>("world", members, r)));
  }
  return group;
}

void run_threads(int size, const std::function<void(Communicator&)>& body) {
  auto group = make_thread_communicators(size);
  std::mutex mutex;
  std::exception_ptr first, consequence;
  std::vector<std::thread> threads;
  for (auto& member : group) {
    threads.emplace_back([&, owned = std::move(member)]() mutable {
      try {
        const auto communicator = std::move(owned);  // so that an exception passes it
        body(*communicator);
      } catch (const Abandoned&) {
        const std::lock_guard lock(mutex);
        consequence = std::current_exception();
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!first) first = std::current_exception();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
  if (consequence) std::rethrow_exception(consequence);
}

}  // namespace dujiang::comm
