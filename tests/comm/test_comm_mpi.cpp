// Started by mpirun: the conformance suite over processes.

#include "comm/bootstrap.h"
#include "comm/mpi_communicator.h"
#include "conformance.h"
#include "framework/base/check.h"

using namespace dujiang;
using namespace dujiang::comm;

int main() {
  return run_job([] {
    const auto world = make_communicator({.transport = "auto"});
    DUJIANG_CHECK(world->transport() == "mpi", "under mpirun, auto gave the transport {}", world->transport());
    DUJIANG_CHECK(world->local_size() == world->size() && world->local_rank() == world->rank(),
                  "rank {} of {} is {} of {} on its host; all ranks are on this host", world->rank(), world->size(),
                  world->local_rank(), world->local_size());
    check_operations(*world);
    check_queued_operations(*world);
    check_chunk_boundaries(*world, mpi_chunk_bytes(world->size()));
    check_split(*world);
    return 0;
  });
}
