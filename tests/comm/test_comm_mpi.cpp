// Started by mpirun: the conformance suite over processes. Its argument says which part.

#include <string>

#include "comm/bootstrap.h"
#include "comm/host_group.h"
#include "comm/mpi_communicator.h"
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
    if (part == "loops") check_many_communicators(*world, 1000);
    if (part == "large") check_more_than_2_to_the_31(*world);
    return 0;
  });
}
