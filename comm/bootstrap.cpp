#include "comm/bootstrap.h"

#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <sstream>
#include <thread>

#include "comm/hccl/hccl_communicator.h"
#include "comm/host/host_blocks.h"
#include "comm/host/self_communicator.h"
#include "comm/mpi/mpi_communicator.h"
#include "comm/mpi/mpi_session.h"
#include "comm/rendezvous/bootstrap_guard.h"
#include "comm/store/socket.h"
#include "framework/base/check.h"
#ifdef DUJIANG_HAVE_NCCL
#include "comm/nccl/nccl_communicator.h"
#endif

namespace dujiang::comm {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// How this process takes part in the job: what outlives the communicators of run_job's body.
struct Member {
  int rank = 0, size = 1;
  std::shared_ptr<Store> store;
  std::shared_ptr<Watchdog> watchdog;
};
// Of the run_job that this thread is in, if any.
thread_local std::vector<Member>* members_of_job = nullptr;

std::string random_token() {
  std::array<unsigned char, 24> bytes{};
  DUJIANG_CHECK(getrandom(bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()), "getrandom: {}",
                std::strerror(errno));
  return fmt::format("{:02x}", fmt::join(bytes, ""));
}

// Ranks with the same answer share a machine's devices.
std::string this_host() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string boot;
  std::getline(file, boot);
  return fmt::format("{}/{}", name.data(), boot);
}

std::string transport_for(const Options& options, const Launch& launch) {
  constexpr std::array known{"auto", "self", "mpi", "nccl", "hccl"};
  auto transport = options.transport;
  if (std::find(known.begin(), known.end(), transport) == known.end()) {
    fail_user("comm.transport is \"{}\", expected auto, self, mpi, nccl or hccl", transport);
  }
  if (transport == "auto") {
    constexpr std::array by_device{"mpi", "nccl", "hccl"};
    const bool alone = launch.launcher.empty() || (launch.size == 1 && !launch.mpi);
    transport = alone ? "self" : by_device.at(static_cast<std::size_t>(options.device));
  }
  if (transport == "self" && launch.size > 1) {
    fail_user("comm.transport is self, but {} started {} ranks: use auto or mpi, or start one process", launch.launcher,
              launch.size);
  }
  if (transport == "mpi" && !launch.mpi) {
    const auto started = launch.launcher.empty()            ? "this process was started alone"
                         : launch.launcher == "environment" ? "RANK and WORLD_SIZE, of which MPI knows nothing, say "
                                                              "what the ranks are"
                         : launch.launcher == "srun"        ? "srun started the ranks without PMIx"
                                                            : "a launcher that OpenMPI doesn't know started the ranks";
    fail_user(
        "comm.transport is {}, which for ranks on a CPU is mpi, but {}: start the ranks with mpirun or srun "
        "--mpi=pmix, or use self for one process alone",
        options.transport, started);
  }
#ifndef DUJIANG_HAVE_NCCL
  if (transport == "nccl") fail_user("comm.transport is nccl, but this program was built without NCCL");
#endif
  return transport;
}

Member join_by_mpi(MpiSession& session, Deadline deadline) {
  Member member{session.rank(), session.size(), nullptr, nullptr};
  StoreAddress address;
  std::ostringstream told;
  if (member.rank == 0) {
    address.token = random_token();
    address.hosts = session.one_host() ? std::vector<std::string>{"127.0.0.1"} : own_addresses();
    if (address.hosts.empty()) {
      fail_user(
          "the host of rank 0 has no network address by which the ranks on other hosts could reach it: its "
          "interfaces are down or only loopback");
    }
    member.store = serve_tcp_store(address, member.size);
    told << address.token << ' ' << address.port;
    for (const auto& host : address.hosts) told << ' ' << host;
  }
  std::istringstream heard(session.broadcast_bytes(told.str()));
  if (member.rank > 0) {
    heard >> address.token >> address.port;
    for (std::string host; heard >> host;) address.hosts.push_back(host);
    member.store = connect_tcp_store(address, member.rank, member.size, deadline);
  }
  return member;
}

Member join_by_store(const Launch& launch, Deadline deadline) {
  Member member{launch.rank, launch.size, nullptr, nullptr};
  StoreAddress address = launch.store.value_or(StoreAddress{{"127.0.0.1"}, 0, random_token()});
  if (!launch.store_folder.empty()) {
    member.store = open_file_store(launch.store_folder, launch.token, launch.rank, launch.size, deadline);
  } else if (launch.rank == 0) {
    member.store = serve_tcp_store(address, launch.size);
  } else {
    member.store = connect_tcp_store(address, launch.rank, launch.size, deadline);
  }
  return member;
}

// Every rank says that it is there, which transport it wants and where it runs. Returns its place among the ranks of
// its host.
int meet(const Member& member, const std::string& transport, Deadline deadline) {
  const auto host = this_host();
  const auto all =
      member.store->exchange("bootstrap", member.rank, member.size, fmt::format("{} {}", transport, host), deadline);
  int local_rank = 0;
  for (int r = 0; r < member.size; ++r) {
    const auto& told = all[static_cast<std::size_t>(r)];
    const auto theirs = told.substr(0, told.find(' '));
    if (theirs != transport) {
      fail_user("comm.transport is {} on rank {}, but {} on rank {}: give all ranks the same config", transport,
                member.rank, theirs, r);
    }
    if (r < member.rank && told.substr(theirs.size() + 1) == host) ++local_rank;
  }
  return local_rank;
}

// What other ranks that failed have told, by rank.
std::vector<std::pair<int, std::string>> failures_elsewhere(const std::vector<Member>& members) {
  std::vector<std::pair<int, std::string>> found;
  for (const auto& m : members) {
    for (const auto& [key, value] : m.store->list("ended/")) {
      const int rank = std::stoi(key.substr(std::strlen("ended/")));
      if (rank != m.rank && value != Watchdog::ended_orderly) found.emplace_back(rank, value);
    }
  }
  return found;
}

// The same fault, found by several ranks; their numbers and times may differ.
bool same_fault(std::string a, std::string b) {
  const auto digit = [](unsigned char c) { return c >= '0' && c <= '9'; };
  std::erase_if(a, digit);
  std::erase_if(b, digit);
  return a == b;
}

// Tells the other ranks why this one ends. Returns whether another failed first, so that this failure may follow. One
// that certainly follows waits for its cause to be told, and is told itself only where no other is.
bool tell_others(const std::vector<Member>& members, const std::string& line, bool certainly_follows) {
  bool follows = false;
  try {
    for (const auto& m : members) {
      if (m.watchdog) m.watchdog->silence();
    }
    // A rank that leaves with an error makes others fail before it has unwound and can say so.
    const auto deadline = Clock::now() + (certainly_follows ? 2000ms : 100ms);
    do {
      if (!members.empty()) std::this_thread::sleep_for(50ms);
      for (const auto& [rank, told] : failures_elsewhere(members)) follows = follows || !same_fault(told, line);
    } while (!members.empty() && !follows && Clock::now() < deadline);
    for (const auto& m : members) {
      if (!(certainly_follows && follows)) m.store->set(fmt::format("ended/{}", m.rank), line);
    }
    for (const auto& m : members) m.store->abandon();
  } catch (const std::exception&) {
    for (const auto& m : members) m.store->abandon();  // the store is gone: nobody to tell
  }
  return follows;
}

// Prints once for the job: ranks that fail alike are ended by the lowest before their turn comes.
int end_job(const Launch& launch, const std::vector<Member>& members, const std::string& message, int status,
            bool follows_another = false) {
  const std::string line = message.substr(0, std::min<std::size_t>(message.find('\n'), 1000));
  const bool follows = tell_others(members, line, follows_another);
  if (launch.rank > 0 || follows) {
    std::signal(SIGTERM, SIG_DFL);
    // MPI_Abort reaches the others within milliseconds; mpirun takes a second to end those that never called MPI.
    // Without MPI nobody ends anybody.
    const auto first = mpi_running() ? 1000ms : launch.mpi ? 3000ms : 300ms;
    const auto after = follows ? 4000ms : 0ms;
    std::this_thread::sleep_for(first + after + std::min(launch.rank, 7) * 500ms);
  }
  for (const auto& [rank, told] : failures_elsewhere(members)) {
    if (rank < launch.rank && same_fault(told, line)) return status;
  }
  std::fflush(stdout);
  if (launch.size != 1) {
    fmt::print(stderr, "dujiang: rank {} of {}: {}\n", launch.rank, launch.size, message);
  } else {
    fmt::print(stderr, "dujiang: {}\n", message);
  }
  std::fflush(stderr);
  abort_mpi_job(status);
  return status;
}

}  // namespace

std::unique_ptr<Communicator> make_communicator(const Options& options) {
  const auto deadline = Clock::now() + options.bootstrap_timeout;
  const Launch launch = detect_launch();
  const auto transport = transport_for(options, launch);
  if (transport == "self") return make_self_communicator();

  std::shared_ptr<MpiSession> session;
  Member member;
  if (launch.mpi) {
    const BootstrapGuard guard(launch, options.bootstrap_timeout);
    session = std::make_shared<MpiSession>();
    if (launch.size != 0 && session->size() != launch.size) {
      fail_user("{} started {} ranks, but MPI sees {}: the program and the launcher belong to different MPIs",
                launch.launcher, launch.size, session->size());
    }
    member = join_by_mpi(*session, deadline);
  } else {
    member = join_by_store(launch, deadline);
  }
  const auto place = members_of_job == nullptr ? 0 : members_of_job->size();
  if (members_of_job != nullptr) members_of_job->push_back(member);
  const int local_rank = meet(member, transport, deadline);
  auto watchdog = std::make_shared<Watchdog>(member.store, member.rank, member.size,
                                             Watchdog::Options{options.timeout, options.check, {}});
  if (members_of_job != nullptr) (*members_of_job)[place].watchdog = watchdog;

  if (transport == "mpi") return make_mpi_communicator(session, watchdog);
  std::unique_ptr<Communicator> world;
#ifdef DUJIANG_HAVE_NCCL
  if (transport == "nccl") world = make_nccl_communicator(watchdog, member.rank, member.size, local_rank, deadline);
#endif
  if (transport == "hccl") {
    world =
        make_hccl_communicator(watchdog, member.rank, member.size, local_rank, {deadline, options.bootstrap_timeout});
  }
  return world;
}

int run_job(const std::function<int()>& body) {
  Launch launch;
  std::vector<Member> members;
  members_of_job = &members;
  struct Leave {
    ~Leave() { members_of_job = nullptr; }
  } leave;
  try {
    launch = detect_launch();
    return body();
  } catch (const Abandoned& e) {
    return end_job(launch, members, e.what(), e.exit_status(), true);
  } catch (const Error& e) {
    return end_job(launch, members, e.what(), e.exit_status());
  } catch (const std::exception& e) {
    return end_job(launch, members, e.what(), 1);
  }
}

}  // namespace dujiang::comm
