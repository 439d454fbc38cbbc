#include "comm/standin/rank_group.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <map>
#include <random>
#include <thread>

#include "framework/base/check.h"

namespace dujiang::standin {

using comm::P2p;

namespace {

constexpr std::size_t page = 4096;
constexpr std::size_t why_bytes = 512;

std::size_t pages(std::size_t bytes) {
  return (bytes + page - 1) / page * page;
}

std::uint64_t hash_of(const std::vector<int>& members, std::uint64_t tag) {
  std::uint64_t h = 0xcbf29ce484222325ull ^ tag;
  for (const int m : members) h = (h ^ static_cast<std::uint64_t>(m + 1)) * 0x100000001b3ull;
  return h == 0 ? 1 : h;
}

// File descriptors of ids made here whose group this process hasn't joined yet.
struct Made {
  std::mutex mutex;
  std::map<std::string, int> descriptors;
};
Made& made() {
  static Made instance;
  return instance;
}

}  // namespace

// An offer of a subgroup's id to its other members.
struct Offer {
  std::atomic<std::uint32_t> state{0};  // 0 free, 1 being written, 2 readable
  std::atomic<std::uint32_t> readers{0};
  std::uint64_t key = 0;
  char id[RankGroup::max_id_bytes] = {};
};

struct Meeting {
  std::atomic<std::uint64_t> key{0};  // all bits set once two ranks differed
  std::atomic<std::uint32_t> here{0};
};

// The head of the shared memory; zeros are its initial state.
struct RankGroup::Segment {
  std::uint64_t nonce;
  std::atomic<std::uint32_t> attached;
  std::atomic<std::uint32_t> taken[max_size];
  std::atomic<std::uint32_t> aborted;  // 1 being written, 2 readable
  char why[why_bytes];
  Offer offers[64];
  Meeting held[meetings];
};

// From one rank to another: bytes of messages one after the other, each announced by its length.
struct RankGroup::Channel {
  static constexpr std::size_t capacity = 64 * 1024;
  alignas(64) std::atomic<std::uint64_t> written;
  alignas(64) std::atomic<std::uint64_t> read;
  alignas(64) std::byte data[capacity];
};

struct RankGroup::Mapping {
  Mapping(int fd, std::size_t bytes) : bytes(bytes) {
    memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    DUJIANG_CHECK(memory != MAP_FAILED, "stand-in: can't map {} bytes of shared memory: {}", bytes,
                  std::strerror(errno));
  }
  ~Mapping() { ::munmap(memory, bytes); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  Segment& segment() const { return *static_cast<Segment*>(memory); }

  std::size_t bytes;
  void* memory;
};

struct RankGroup::Turns {
  std::mutex mutex;
  std::condition_variable changed;
  std::uint64_t next = 0;
  std::set<std::uint64_t> waiting;
};

class RankGroup::Turn {
 public:
  explicit Turn(std::shared_ptr<Turns> turns) : turns_(std::move(turns)) {
    const std::lock_guard lock(turns_->mutex);
    number_ = turns_->next++;
    turns_->waiting.insert(number_);
  }
  ~Turn() {
    const std::lock_guard lock(turns_->mutex);
    turns_->waiting.erase(number_);
    turns_->changed.notify_all();
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

  bool wait(const std::function<bool()>& stopped) const {
    std::unique_lock lock(turns_->mutex);
    while (*turns_->waiting.begin() != number_) {
      if (stopped()) return false;
      turns_->changed.wait_for(lock, std::chrono::milliseconds(10));
    }
    return true;
  }

 private:
  std::shared_ptr<Turns> turns_;
  std::uint64_t number_ = 0;
};

std::string RankGroup::make_id() {
  const int fd = ::memfd_create("dujiang-standin", MFD_CLOEXEC);
  DUJIANG_CHECK(fd >= 0, "stand-in: can't make shared memory: {}", std::strerror(errno));
  std::random_device random;
  const std::uint64_t nonce = (static_cast<std::uint64_t>(random()) << 32) | random();
  if (::ftruncate(fd, static_cast<off_t>(sizeof(Segment))) != 0 ||
      ::pwrite(fd, &nonce, sizeof nonce, 0) != static_cast<ssize_t>(sizeof nonce)) {
    const int error = errno;
    ::close(fd);
    fail("stand-in: can't make shared memory: {}", std::strerror(error));
  }
  const std::string id = fmt::format("/proc/{}/fd/{} {:016x}", ::getpid(), fd, nonce);
  const std::lock_guard lock(made().mutex);
  made().descriptors[id] = fd;
  return id;
}

RankGroup::RankGroup(const std::string& id, int rank, int size, std::chrono::steady_clock::time_point deadline,
                     const Interrupted& interrupted)
    : rank_(rank), size_(size), turns_(std::make_shared<Turns>()) {
  DUJIANG_CHECK(size >= 1 && size <= max_size && rank >= 0 && rank < size, "stand-in: rank {} of {} (at most {})", rank,
                size, max_size);
  const auto space = id.find(' ');
  DUJIANG_CHECK(space != std::string::npos, "stand-in: \"{}\" is no group's id", id);
  const std::string path = id.substr(0, space);
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  DUJIANG_CHECK(fd >= 0, "stand-in: can't open {}: {}: has the rank that made this id ended?", path,
                std::strerror(errno));

  const std::size_t head = pages(sizeof(Segment)), block = pages(comm::HostGroup::block_bytes(size));
  const auto ranks = static_cast<std::size_t>(size);
  const std::size_t bytes = head + ranks * block + ranks * ranks * sizeof(Channel);
  std::uint64_t nonce = 0;
  struct stat status = {};
  const bool right = ::pread(fd, &nonce, sizeof nonce, 0) == static_cast<ssize_t>(sizeof nonce) &&
                     fmt::format("{:016x}", nonce) == id.substr(space + 1) && ::fstat(fd, &status) == 0;
  // Every rank comes to the same length, so it doesn't matter who makes it.
  const bool sized = right && (static_cast<std::size_t>(status.st_size) == bytes ||
                               (static_cast<std::size_t>(status.st_size) == sizeof(Segment) &&
                                ::ftruncate(fd, static_cast<off_t>(bytes)) == 0));
  try {
    DUJIANG_CHECK(right, "stand-in: {} is another memory than that of the id", path);
    DUJIANG_CHECK(sized, "stand-in: rank {} asks for a group of {} ranks, but others for another size", rank, size);
    mapping_ = std::make_shared<Mapping>(fd, bytes);
  } catch (...) {
    ::close(fd);
    throw;
  }
  ::close(fd);

  Segment& segment = mapping_->segment();
  DUJIANG_CHECK(segment.taken[rank].exchange(1) == 0, "stand-in: rank {} of {} has come twice", rank, size);
  segment.attached.fetch_add(1);
  int idle = 0;
  interrupted_ = &interrupted;
  while (segment.attached.load() < static_cast<std::uint32_t>(size)) {
    if (std::chrono::steady_clock::now() >= deadline) {
      std::string missing;
      for (int r = 0; r < size; ++r) {
        if (segment.taken[r].load() == 0) missing += fmt::format("{}{}", missing.empty() ? "" : ", ", r);
      }
      abort(fmt::format("rank {} gave up waiting for ranks {}", rank, missing));
      fail("stand-in: rank {} of {} waited in vain for ranks {}", rank, size, missing);
    }
    pause_or_throw(idle);
  }
  interrupted_ = nullptr;
  {
    const std::lock_guard lock(made().mutex);
    if (const auto mine = made().descriptors.find(id); mine != made().descriptors.end()) {
      ::close(mine->second);
      made().descriptors.erase(mine);
    }
  }
  std::vector<std::byte*> blocks;
  for (std::size_t r = 0; r < ranks; ++r)
    blocks.push_back(static_cast<std::byte*>(mapping_->memory) + head + r * block);
  group_ = std::make_unique<comm::HostGroup>(std::move(blocks), rank, nullptr, [this] { return stopped(); });
}

RankGroup::~RankGroup() = default;

std::shared_ptr<RankGroup::Turn> RankGroup::next_turn() {
  return std::make_shared<Turn>(turns_);
}

bool RankGroup::stopped() const {
  return mapping_->segment().aborted.load() == 2 || (interrupted_ != nullptr && *interrupted_ && (*interrupted_)());
}

// Waits a little, longer each time, so that ranks that outnumber the cores don't starve one another.
void RankGroup::pause_or_throw(int& idle) const {
  if (stopped()) {
    const std::string why = aborted();
    fail("{}", why.empty() ? "interrupted" : why);
  }
  if (++idle < 50) {
    std::this_thread::yield();
  } else {
    std::this_thread::sleep_for(std::chrono::microseconds(std::min(20 * (idle - 49), 1000)));
  }
}

void RankGroup::abort(const std::string& why) {
  Segment& segment = mapping_->segment();
  std::uint32_t none = 0;
  if (segment.aborted.compare_exchange_strong(none, 1)) {
    std::strncpy(segment.why, why.c_str(), why_bytes - 1);
    segment.aborted.store(2);
  }
}

std::string RankGroup::aborted() const {
  const Segment& segment = mapping_->segment();
  return segment.aborted.load() == 2 ? segment.why : "";
}

void RankGroup::run(const comm::Request& request, const Turn& turn, const Interrupted& interrupted) {
  const auto interrupted_or_aborted = [&] { return !aborted().empty() || (interrupted && interrupted()); };
  if (!turn.wait(interrupted_or_aborted)) {
    fail("{}: {}", name_of(request.op), aborted().empty() ? "interrupted" : aborted());
  }
  if (!broken_.empty()) fail("{}: refused after a failure: {}", name_of(request.op), broken_);
  interrupted_ = &interrupted;
  try {
    if (request.op == comm::Op::batch_send_recv) {
      exchange(request.messages);
    } else {
      group_->run(request);
    }
  } catch (const std::exception& e) {
    interrupted_ = nullptr;
    broken_ = e.what();
    throw;
  }
  interrupted_ = nullptr;
}

RankGroup::Met RankGroup::meet(int slot, std::uint64_t key, std::chrono::steady_clock::time_point deadline,
                               const Interrupted& interrupted) {
  constexpr std::uint64_t differ = ~std::uint64_t{0};
  DUJIANG_CHECK(slot >= 0 && slot < meetings && key != 0 && key != differ, "stand-in: meeting {} about {}", slot, key);
  Meeting& meeting = mapping_->segment().held[slot];
  std::uint64_t first = 0;
  if (!meeting.key.compare_exchange_strong(first, key) && first != key) meeting.key.store(differ);
  meeting.here.fetch_add(1);
  for (int idle = 0;; ++idle) {
    if (meeting.key.load() == differ) return Met::differ;
    if (meeting.here.load() >= static_cast<std::uint32_t>(size_)) return Met::all;
    if (std::chrono::steady_clock::now() >= deadline || !aborted().empty() || (interrupted && interrupted())) {
      return Met::late;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(std::min(20 * idle, 1000)));
  }
}

RankGroup::Channel& RankGroup::channel(int from, int to) const {
  const auto ranks = static_cast<std::size_t>(size_);
  const std::size_t block = pages(comm::HostGroup::block_bytes(size_));
  auto* first = static_cast<std::byte*>(mapping_->memory) + pages(sizeof(Segment)) + ranks * block;
  return reinterpret_cast<Channel*>(first)[static_cast<std::size_t>(from) * ranks + static_cast<std::size_t>(to)];
}

// A message under way: its length first, then its bytes.
struct RankGroup::Transfer {
  const P2p* message;
  std::size_t bytes;
  std::uint64_t length = 0;
  std::size_t moved = 0;  // of the length and the bytes
  bool done = false;
};

bool RankGroup::advance(Transfer& t) {
  constexpr std::size_t head = sizeof(std::uint64_t);
  const bool sends = t.message->kind == P2p::Kind::send;
  Channel& c = sends ? channel(rank_, t.message->peer) : channel(t.message->peer, rank_);
  const std::uint64_t written = c.written.load(std::memory_order_acquire),
                      read = c.read.load(std::memory_order_acquire);
  std::size_t ready = sends ? Channel::capacity - (written - read) : written - read;
  bool moved = false;
  std::uint64_t at = sends ? written : read;
  while (ready > 0 && t.moved < head + t.bytes) {
    const bool in_head = t.moved < head;
    std::byte* mine = in_head ? reinterpret_cast<std::byte*>(&t.length) + t.moved
                              : static_cast<std::byte*>(t.message->buffer.data) + (t.moved - head);
    const std::size_t left = in_head ? head - t.moved : head + t.bytes - t.moved;
    const std::size_t n = std::min({ready, left, Channel::capacity - at % Channel::capacity});
    std::byte* theirs = c.data + at % Channel::capacity;
    std::memcpy(sends ? theirs : mine, sends ? mine : theirs, n);
    at += n;
    ready -= n;
    t.moved += n;
    moved = true;
    if (!sends && t.moved == head) {
      DUJIANG_CHECK(t.length == t.bytes, "rank {} receives {} bytes from rank {}, which sends {}", rank_, t.bytes,
                    t.message->peer, t.length);
    }
  }
  if (moved) (sends ? c.written : c.read).store(at, std::memory_order_release);
  // Rendezvous: a send is over when the other side has taken it.
  t.done = t.moved == head + t.bytes && (!sends || c.read.load(std::memory_order_acquire) >= at);
  return moved || t.done;
}

void RankGroup::exchange(const std::vector<P2p>& messages) {
  std::map<std::pair<P2p::Kind, int>, std::vector<Transfer>> queues;
  for (const P2p& m : messages) {
    const std::size_t bytes = static_cast<std::size_t>(m.buffer.count) * size_of(m.buffer.dtype);
    queues[{m.kind, m.peer}].push_back({&m, bytes, bytes, 0, false});
  }
  int idle = 0;
  while (!queues.empty()) {
    bool moved = false;
    for (auto queue = queues.begin(); queue != queues.end();) {
      auto& transfers = queue->second;
      moved |= advance(transfers.front());
      if (transfers.front().done) transfers.erase(transfers.begin());
      queue = transfers.empty() ? queues.erase(queue) : std::next(queue);
    }
    if (moved) {
      idle = 0;
    } else {
      pause_or_throw(idle);
    }
  }
}

std::string RankGroup::claim_id(const std::vector<int>& members, std::uint64_t tag, const std::function<void()>& wait) {
  Segment& segment = mapping_->segment();
  const std::uint64_t key = hash_of(members, tag);
  const auto others = static_cast<std::uint32_t>(members.size() - 1);
  if (members.front() == rank_) {
    const std::string id = make_id();
    if (others == 0) return id;
    for (;; wait()) {
      for (Offer& offer : segment.offers) {
        std::uint32_t free = 0;
        if (!offer.state.compare_exchange_strong(free, 1)) continue;
        offer.key = key;
        std::strncpy(offer.id, id.c_str(), max_id_bytes - 1);
        offer.readers.store(others);
        offer.state.store(2);
        return id;
      }
    }
  }
  for (;; wait()) {
    for (Offer& offer : segment.offers) {
      if (offer.state.load() != 2 || offer.key != key) continue;
      const std::string id = offer.id;
      if (offer.readers.fetch_sub(1) == 1) offer.state.store(0);
      return id;
    }
  }
}

std::unique_ptr<RankGroup> RankGroup::subgroup(const std::vector<int>& members, std::uint64_t tag,
                                               std::chrono::steady_clock::time_point deadline,
                                               const Interrupted& interrupted) {
  const auto me = std::find(members.begin(), members.end(), rank_);
  DUJIANG_CHECK(me != members.end(), "stand-in: rank {} asks for a group that it isn't in", rank_);
  int idle = 0;
  const auto wait = [&] {
    DUJIANG_CHECK(std::chrono::steady_clock::now() < deadline && !(interrupted && interrupted()) && aborted().empty(),
                  "stand-in: rank {} waited in vain for rank {} to make a group of {}", rank_, members.front(),
                  members.size());
    std::this_thread::sleep_for(std::chrono::microseconds(std::min(20 * ++idle, 1000)));
  };
  const std::string id = claim_id(members, tag, wait);
  return std::make_unique<RankGroup>(id, static_cast<int>(me - members.begin()), static_cast<int>(members.size()),
                                     deadline, interrupted);
}

}  // namespace dujiang::standin
