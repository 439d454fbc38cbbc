#include "comm/host/host_blocks.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstring>

namespace dujiang::comm {
namespace {

constexpr std::size_t line = 64;

std::size_t padded(std::size_t bytes) {
  return (bytes + line - 1) / line * line;
}

std::size_t counts_bytes(int size) {
  return padded(HostBlocks::turns * static_cast<std::size_t>(size) * sizeof(std::int64_t));
}

bool more_than_processors(int ranks) {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 && ranks > CPU_COUNT(&set);
}

void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t value, std::chrono::milliseconds at_most) {
  const timespec time{0, static_cast<long>(at_most.count() * 1'000'000)};
  syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAIT, value, &time, nullptr, 0);
}

void futex_wake_all(std::atomic<std::uint32_t>& word) {
  syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace

// The head of a block; counts, small data and staging follow. Lies in zeroed memory.
struct HostBlocks::Block {
  // Counts this rank's steps; the others wait for it to reach theirs.
  alignas(line) std::atomic<std::uint32_t> clock;
  alignas(line) std::atomic<std::uint32_t> sleepers;  // on the clock
  std::atomic<std::uint32_t> broken;
  char reason[500];
  alignas(line) Announcement announcements[turns];
};

std::size_t HostBlocks::small_bytes(int size) {
  return size <= 4 ? 16 << 10 : 8 << 10;
}

std::size_t HostBlocks::chunk_bytes(int size) {
  constexpr std::size_t stage = 512 << 10;  // of a rank in one round: two of them stay in its second cache
  return std::clamp<std::size_t>(stage / static_cast<std::size_t>(size + 1) / 4096 * 4096, 4096, 128 << 10);
}

std::size_t HostBlocks::block_bytes(int size) {
  return padded(sizeof(Block)) + counts_bytes(size) + turns * small_bytes(size) +
         2 * static_cast<std::size_t>(size + 1) * chunk_bytes(size);
}

HostBlocks::HostBlocks(std::vector<std::byte*> blocks, int rank, std::function<bool()> interrupted)
    : blocks_(std::move(blocks)),
      rank_(rank),
      interrupted_(std::move(interrupted)),
      crowded_(more_than_processors(size())) {}

HostBlocks::Block& HostBlocks::block(int rank) const {
  return *reinterpret_cast<Block*>(blocks_[static_cast<std::size_t>(rank)]);
}

std::byte* HostBlocks::data(int rank) const {
  return blocks_[static_cast<std::size_t>(rank)] + padded(sizeof(Block));
}

HostBlocks::Announcement& HostBlocks::announcement() {
  return block(rank_).announcements[operations_ % turns];
}

const HostBlocks::Announcement& HostBlocks::announced(int rank) const {
  return block(rank).announcements[operations_ % turns];
}

std::int64_t* HostBlocks::counts(int rank) const {
  return reinterpret_cast<std::int64_t*>(data(rank)) + operations_ % turns * static_cast<std::size_t>(size());
}

std::byte* HostBlocks::small(int rank) const {
  return data(rank) + counts_bytes(size()) + operations_ % turns * small_bytes(size());
}

std::byte* HostBlocks::stage(int rank, std::uint32_t round, int piece) const {
  const auto pieces = static_cast<std::size_t>(size() + 1);
  return data(rank) + counts_bytes(size()) + turns * small_bytes(size()) +
         (round % 2 * pieces + static_cast<std::size_t>(piece)) * chunk_bytes(size());
}

void HostBlocks::tick() {
  Block& mine = block(rank_);
  mine.clock.store(++now_, std::memory_order_seq_cst);
  if (mine.sleepers.load(std::memory_order_seq_cst) != 0) futex_wake_all(mine.clock);
}

void HostBlocks::next_operation() {
  // Where an operation ended early, this rank's clock has fallen behind the others' and would meet them in another one.
  if (const Block& mine = block(rank_); mine.broken.load(std::memory_order_relaxed) != 0)
    throw Abandoned(fmt::format("an earlier operation failed: {}", static_cast<const char*>(mine.reason)));
  // Who has begun the operation after it has finished it.
  const std::uint32_t after = begun_at_[(operations_ + 2) % turns];
  if (operations_ + 1 >= turns) {
    for (int r = 0; r < size(); ++r) await(r, after);
  }
  ++operations_;
  begun_at_[operations_ % turns] = now_ + 1;
}

bool HostBlocks::reached(int rank, std::uint32_t time) const {
  // The difference, as the count may wrap around.
  return static_cast<std::int32_t>(block(rank).clock.load(std::memory_order_acquire) - time) >= 0;
}

void HostBlocks::check_whole() const {
  for (int r = 0; r < size(); ++r) {
    if (block(r).broken.load(std::memory_order_acquire) != 0) {
      throw Abandoned(fmt::format("rank {} gave up: {}", r, static_cast<const char*>(block(r).reason)));
    }
  }
  if (interrupted_ && interrupted_()) throw Abandoned("abandoned: an earlier operation failed, or the job is ending");
}

void HostBlocks::await(int rank, std::uint32_t time) {
  using namespace std::chrono;
  if (!crowded_) {
    for (int i = 0; i < 500; ++i) {
      if (reached(rank, time)) return;
      pause_briefly();
    }
  }
  const auto start = steady_clock::now();
  while (steady_clock::now() - start < microseconds(200)) {
    for (int i = 0; i < 4; ++i) {
      if (reached(rank, time)) return;
      sched_yield();
    }
  }
  auto& clock = block(rank).clock;
  auto& sleepers = block(rank).sleepers;
  struct Sleeper {
    std::atomic<std::uint32_t>& count;
    explicit Sleeper(std::atomic<std::uint32_t>& c) : count(c) { count.fetch_add(1, std::memory_order_seq_cst); }
    ~Sleeper() { count.fetch_sub(1, std::memory_order_seq_cst); }
  } const sleeper(sleepers);
  for (;;) {
    const std::uint32_t seen = clock.load(std::memory_order_seq_cst);
    if (static_cast<std::int32_t>(seen - time) >= 0) return;
    check_whole();
    futex_wait(clock, seen, milliseconds(20));
  }
}

void HostBlocks::await_everyone() {
  for (int i = 1; i < size(); ++i) await((rank_ + i) % size(), now_);
}

void HostBlocks::abandon(const std::string& why) {
  Block& mine = block(rank_);
  if (mine.broken.load(std::memory_order_relaxed) != 0) return;
  std::strncpy(mine.reason, why.c_str(), sizeof mine.reason - 1);
  mine.broken.store(1, std::memory_order_release);
  futex_wake_all(mine.clock);
}

bool HostBlocks::came(std::span<const int> ranks, std::chrono::nanoseconds patience) const {
  const auto start = std::chrono::steady_clock::now();
  int spins = crowded_ ? 0 : 200;
  for (std::size_t i = 0;; --spins) {
    while (i < ranks.size() && reached(ranks[i], now_)) ++i;
    if (i == ranks.size()) return true;
    if (spins > 0) {
      pause_briefly();
    } else {
      if (std::chrono::steady_clock::now() - start > patience) return false;
      sched_yield();
    }
  }
}

}  // namespace dujiang::comm
