// Started by mpirun: the conformance suite over processes. Its argument says which part.

#include <unistd.h>

#include <array>
#include <cstdio>
#include <sstream>
#include <string>

#include "comm/bootstrap.h"
#include "comm/host/host_group.h"
#include "comm/mpi/mpi_communicator.h"
#include "conformance.h"
#include "framework/base/check.h"

using namespace dujiang;
using namespace dujiang::comm;

namespace {

// One host, ordinary memory and memory that the ranks read where it lies.
void check_one_host(Communicator& world) {
  DUJIANG_CHECK(world.local_size() == world.size() && world.local_rank() == world.rank(),
                "rank {} of {} is {} of {} on its host; all ranks are on this host", world.rank(), world.size(),
                world.local_rank(), world.local_size());
  check_operations(world);
  check_queued_operations(world);
  check_chunk_boundaries(world, static_cast<std::int64_t>(HostGroup::chunk_bytes(world.size())));
  check_chunk_boundaries(world, static_cast<std::int64_t>(HostGroup::small_bytes(world.size())));
  check_split(world);
  check_two_threads(world);
  check_many_communicators(world, 20);
  Setting reached;
  reached.allocate = [&](std::size_t bytes) { return world.allocate(bytes); };
  check_chunk_boundaries(world, static_cast<std::int64_t>(HostGroup::small_bytes(world.size())), reached);
  check_queued_operations(world, reached);
  check_size(world, 9 << 20);
  check_size(world, 9 << 20, reached);
}

// Ranks of this host behave as if they were on several: messages, and hierarchical reductions where blocks allow them.
void check_hosts(Communicator& world) {
  check_operations(world);
  check_queued_operations(world);
  check_chunk_boundaries(world, mpi_chunk_bytes(world.size()));
  check_chunk_boundaries(world, static_cast<std::int64_t>(HostGroup::chunk_bytes(2)));
  check_split(world);
  check_two_threads(world);
  check_many_communicators(world, 20);
}

// Several hosts, real or as real as namespaces make them: `layout` says how many ranks each has, as in "2+1".
void check_real_hosts(Communicator& world, const std::string& layout) {
  int rank = 0;
  std::istringstream counts(layout);
  for (std::string count; std::getline(counts, count, '+');) {
    for (int local = 0; local < std::stoi(count); ++local, ++rank) {
      DUJIANG_CHECK(world.rank() != rank || (world.local_rank() == local && world.local_size() == std::stoi(count)),
                    "rank {} is {} of {} on its host, expected {} of {}", rank, world.local_rank(), world.local_size(),
                    local, count);
    }
  }
  DUJIANG_CHECK(world.size() == rank, "{} ranks, expected {}", world.size(), layout);
  check_hosts(world);
  if (world.local_rank() > 0) return;
  // A host's part in a sum has to leave it, and the sum to come. Gathered are its own data, scattered the others' sums.
  const auto bytes = [&](Op op) { return static_cast<double>(world.stats(op).bytes); };
  const double own = static_cast<double>(world.local_size()) / world.size(), sums = bytes(Op::all_reduce),
               gathered = bytes(Op::all_gather), scattered = bytes(Op::reduce_scatter);
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  std::printf("%s had to send %.0f bytes and to receive %.0f\n", name.data(),
              sums + own * gathered + (1 - own) * scattered, sums + (1 - own) * gathered + own * scattered);
}

}  // namespace

int main(int argc, char** argv) {
  return run_job([&] {
    const std::string part = argc > 1 ? argv[1] : "one_host";
    if (part == "blocks_of_2" || part == "each_alone" || part == "uneven") {
      auto session = std::make_shared<MpiSession>();
      std::vector<int> hosts;
      for (int r = 0; r < session->size(); ++r) {
        hosts.push_back(part == "blocks_of_2" ? r / 2 : part == "each_alone" ? r : (r + 1) / 2);
      }
      check_hosts(*make_mpi_communicator(session, nullptr, hosts));
      return 0;
    }
    const auto world = make_communicator();
    DUJIANG_CHECK(world->transport() == "mpi", "under mpirun, auto gave the transport {}", world->transport());
    DUJIANG_CHECK(world->promises_tree_order(), "transport mpi promises the order of the tree");
    if (part == "one_host") check_one_host(*world);
    if (part == "hosts_core") check_real_hosts(*world, argv[2]);
    if (part == "loops") check_many_communicators(*world, 1000);
    if (part == "large") check_more_than_2_to_the_31(*world);
    return 0;
  });
}
