#include "framework/train/rank_threads.h"

#include <fmt/ranges.h>
#include <sched.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "framework/base/threads.h"
#include "framework/tensor/tensor.h"

namespace dujiang::train {
namespace {

struct Seat {
  std::array<char, 64> host;  // its name
  cpu_set_t processors;
};

Seat own_seat() {
  Seat seat{};
  gethostname(seat.host.data(), seat.host.size() - 1);
  // A machine of more processors than the set holds: all that it holds.
  if (sched_getaffinity(0, sizeof seat.processors, &seat.processors) != 0)
    for (int i = 0; i < omp_get_num_procs(); ++i) CPU_SET(i, &seat.processors);
  return seat;
}

std::vector<Seat> seats_of_host(const Seat& own, comm::Communicator& communicator) {
  std::vector<Seat> seats(static_cast<std::size_t>(communicator.size()));
  const auto bytes = static_cast<std::int64_t>(sizeof own);
  communicator
      .all_gather(comm::ConstBuffer{&own, bytes, Dtype::u8, {}},
                  comm::Buffer{seats.data(), bytes * communicator.size(), Dtype::u8, {}}, default_stream({}))
      .wait_host();
  std::erase_if(seats, [&](const Seat& seat) { return seat.host != own.host; });
  return seats;
}

bool openmp_binds() {
  const auto set = [](const char* name) { return std::getenv(name) != nullptr; };
  return set("OMP_PROC_BIND") || set("OMP_PLACES") || set("GOMP_CPU_AFFINITY");
}

// The calling thread stays where it is, as no other is sent there.
void pin_workers(std::vector<int> processors) {
  const auto here = std::find(processors.begin(), processors.end(), sched_getcpu());
  if (here != processors.end()) std::iter_swap(processors.begin(), here);
#pragma omp parallel num_threads(static_cast <int>(processors.size()))
  if (const int thread = omp_get_thread_num(); thread > 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(processors[static_cast<std::size_t>(thread)], &set);
    sched_setaffinity(0, sizeof set, &set);
  }
}

}  // namespace

std::string RankThreads::str() const {
  const bool run = processors.size() > 2 && processors.back() - processors.front() + 1 == std::ssize(processors);
  const auto list = run ? fmt::format("{} to {}", processors.front(), processors.back())
                        : fmt::format("{}", fmt::join(processors, ", "));
  return fmt::format("{} thread{} {} processor{} {}", threads, threads == 1 ? "" : "s", pinned ? "pinned to" : "on",
                     processors.size() == 1 ? "" : "s", list);
}

RankThreads set_rank_threads(int wanted, comm::Communicator& communicator) {
  const Seat own = own_seat();
  const auto seats = seats_of_host(own, communicator);
  RankThreads rank{.processors = {}, .share = 0};
  for (int p = 0; p < CPU_SETSIZE; ++p) {
    if (!CPU_ISSET(p, &own.processors)) continue;
    rank.processors.push_back(p);
    const auto ranks =
        std::count_if(seats.begin(), seats.end(), [&](const Seat& s) { return CPU_ISSET(p, &s.processors); });
    rank.share += 1.0 / static_cast<double>(ranks);
  }
  if (wanted > 0) {
    set_thread_count(wanted);
  } else if (std::getenv("OMP_NUM_THREADS") == nullptr) {
    set_thread_count(std::max(1, static_cast<int>(rank.share + 1e-6)));
  }
  rank.threads = thread_count();
  if (rank.threads > rank.share + 1e-6 && communicator.local_rank() == 0)
    spdlog::warn(
        "{}: more than this rank's share of {:.2g} (ranks on this host: {}), which is slow; start fewer threads, or "
        "let "
        "ranks use more processors (mpirun --map-by ppr:RANKS:node:PE=THREADS)",
        rank.str(), rank.share, seats.size());
  rank.pinned = rank.threads > 1 && rank.threads == std::ssize(rank.processors) &&
                rank.share > static_cast<double>(rank.threads) - 1e-6 && !openmp_binds();
  if (rank.pinned) pin_workers(rank.processors);
  return rank;
}

}  // namespace dujiang::train
