#include "comm/host/thread_communicator.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <list>
#include <map>
#include <mutex>
#include <thread>

#include "comm/host/host_operation.h"
#include "comm/host/tree_reduce.h"
#include "framework/base/check.h"

namespace dujiang::comm {
namespace {

// Threads reach everything.
class SameProcess final : public PeerMemory {
 public:
  std::uint64_t offer(const void* data, std::size_t) const override { return reinterpret_cast<std::uint64_t>(data); }
  std::byte* reach(int, std::uint64_t handle) const override { return reinterpret_cast<std::byte*>(handle); }
};

// What the ranks of one communicator share.
class Hub {
 public:
  Hub(int size, bool staged)
      : staged_(staged), block_bytes_(HostGroup::block_bytes(size)), memory_(allocate_blocks(block_bytes_, size)) {
    for (int r = 0; r < size; ++r) {
      blocks_.push_back(static_cast<std::byte*>(memory_.get()) + static_cast<std::size_t>(r) * block_bytes_);
    }
  }

  int size() const { return static_cast<int>(blocks_.size()); }

  HostGroup group(int rank) {
    return HostGroup(blocks_, rank, staged_ ? nullptr : std::make_shared<SameProcess>(), [this] { return broken(); });
  }

  // The hub of the `split`-th split's colour, made by whoever comes first.
  std::shared_ptr<Hub> child(int split, int color, int size) {
    const std::lock_guard lock(mutex_);
    auto& hub = children_[{split, color}];
    if (!hub) hub = std::make_shared<Hub>(size, staged_);
    return hub;
  }

  // The messages of one rank's batch; returns when all of them have met theirs. A receiver copies.
  void exchange(int rank, const std::vector<P2p>& messages) {
    std::unique_lock lock(mutex_);
    std::vector<std::shared_ptr<Parcel>> sent;
    for (const P2p& m : messages) {
      if (m.kind != P2p::Kind::send) continue;
      sent.push_back(std::make_shared<Parcel>(Parcel{m.buffer, false, false}));
      parcels_[{rank, m.peer}].push_back(sent.back());
    }
    changed_.notify_all();
    for (const P2p& m : messages) {
      if (m.kind != P2p::Kind::receive) continue;
      auto& queue = parcels_[{m.peer, rank}];
      changed_.wait(lock, [&] { return !queue.empty() || !broken_.empty(); });
      check_whole();
      const auto parcel = queue.front();
      queue.pop_front();
      const Buffer& from = parcel->buffer;
      if (from.count != m.buffer.count || from.dtype != m.buffer.dtype) {
        parcel->wrong = true;
        changed_.notify_all();
        fail("ranks disagree: rank {} sends {} x {}, rank {} expects {} x {}", m.peer, from.count, name_of(from.dtype),
             rank, m.buffer.count, name_of(m.buffer.dtype));
      }
      lock.unlock();
      std::memcpy(m.buffer.data, from.data, static_cast<std::size_t>(from.count) * size_of(from.dtype));
      lock.lock();
      parcel->taken = true;
      changed_.notify_all();
    }
    for (const auto& parcel : sent) {
      changed_.wait(lock, [&] { return parcel->taken || parcel->wrong || !broken_.empty(); });
      DUJIANG_CHECK(!parcel->wrong, "ranks disagree: another rank expects another message than {} x {}",
                    parcel->buffer.count, name_of(parcel->buffer.dtype));
      if (!parcel->taken) check_whole();
    }
  }

  // Everything under way and to come fails.
  void abandon(const std::string& why) {
    const std::lock_guard lock(mutex_);
    if (broken_.empty()) broken_ = why;
    changed_.notify_all();
  }
  bool broken() const {
    const std::lock_guard lock(mutex_);
    return !broken_.empty();
  }

 private:
  struct Parcel {
    Buffer buffer;
    bool taken, wrong;
  };

  static std::shared_ptr<void> allocate_blocks(std::size_t bytes, int size) {
    const std::size_t total = bytes * static_cast<std::size_t>(size);
    void* memory = std::aligned_alloc(64, total);
    DUJIANG_CHECK(memory != nullptr, "no memory for {} ranks", size);
    std::memset(memory, 0, total);
    return {memory, std::free};
  }
  void check_whole() const {
    if (!broken_.empty()) throw Abandoned(broken_);
  }

  const bool staged_;
  const std::size_t block_bytes_;
  const std::shared_ptr<void> memory_;
  std::vector<std::byte*> blocks_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::pair<int, int>, std::shared_ptr<Hub>> children_;
  std::map<std::pair<int, int>, std::list<std::shared_ptr<Parcel>>> parcels_;  // by sender and receiver
  std::string broken_;
};

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<Hub> hub, int rank, std::shared_ptr<Flight> flight)
      : Communicator({"thread", Device{}}, Place{rank, hub->size(), rank, hub->size()}, std::move(flight)),
        hub_(std::move(hub)),
        exceptions_(std::uncaught_exceptions()),
        group_(hub_->group(rank)) {}

  ~ThreadCommunicator() override {
    if (std::uncaught_exceptions() > exceptions_)
      abandon(fmt::format("rank {} of {} left with an error", rank(), size()));
  }

 private:
  void abandon(const std::string& why) {
    group_.abandon(why);
    hub_->abandon(why);
  }

  Work do_start(Request request, Stream&) override {
    const auto failed = [this](const std::string& why) { abandon(why); };
    if (request.op != Op::batch_send_recv) return start_on_host(worker_, group_, *this, std::move(request), failed);
    return worker_.submit([this, failed, q = std::move(request)] {
      run_noted(
          *this, q, [&] { hub_->exchange(rank(), q.messages); }, failed);
    });
  }

  bool do_supports(Op op, Dtype dtype, Reduce reduce) const override {
    return !reduces(op) || can_reduce(dtype, reduce);
  }

  std::shared_ptr<void> do_allocate(std::size_t bytes) override { return zeroed_host_memory(bytes); }

  std::unique_ptr<Communicator> do_split(int color, int key) override {
    std::shared_ptr<Flight> child;
    std::shared_ptr<Hub> hub;
    worker_
        .submit([&] {
          const auto members = split_members(group_, color, key);
          child = flight()->child(color, members);
          if (child) hub = hub_->child(splits_, color, static_cast<int>(members.size()));
          ++splits_;
        })
        .wait_host();
    if (!child) return nullptr;
    const int place = child->rank();
    return std::make_unique<ThreadCommunicator>(std::move(hub), place, std::move(child));
  }

  const std::shared_ptr<Hub> hub_;
  const int exceptions_;
  HostGroup group_;
  int splits_ = 0;
  Worker worker_;  // last: it is joined before what its tasks use goes
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> make_thread_communicators(int size, ThreadOptions options) {
  DUJIANG_CHECK(size > 0, "a group of {} threads", size);
  auto hub = std::make_shared<Hub>(size, options.staged);
  std::vector<std::unique_ptr<Communicator>> group;
  std::vector<int> members;
  for (int r = 0; r < size; ++r) members.push_back(r);
  for (int r = 0; r < size; ++r) {
    group.push_back(std::make_unique<ThreadCommunicator>(hub, r, std::make_shared<Flight>("world", members, r)));
  }
  return group;
}

void run_threads(int size, const std::function<void(Communicator&)>& body, ThreadOptions options) {
  auto group = make_thread_communicators(size, options);
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
