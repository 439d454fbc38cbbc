// Started by mpirun from rank_error_ends_the_job.sh: fails as its argument says.

#include <string>
#include <vector>

#include "comm/bootstrap.h"
#include "framework/base/check.h"

using namespace dujiang;

int main(int argc, char** argv) {
  return comm::run_job([&] {
    const std::string fault = argc > 1 ? argv[1] : "";
    if (fault == "config") fail_user("the fault of a config");
    std::vector<float> v(3 << 20);
    const auto world = comm::make_communicator();
    Stream stream{Device{}};
    const comm::Buffer all{v.data(), static_cast<std::int64_t>(v.size()), Dtype::f32, {}};
    world->all_reduce(all, comm::Reduce::sum, stream).wait_host();
    if (fault == "all") fail_user("the fault of all");
    if (world->rank() == 1 && fault == "one") fail("the fault of one");
    if (fault == "busy") {
      const auto pending = world->all_reduce(all, comm::Reduce::sum, stream);
      const auto queued = world->all_reduce(all, comm::Reduce::sum, stream);
      if (world->rank() == 1) fail("the fault of one that communicates");
      queued.wait_host();
    }
    world->barrier(stream).wait_host();
    world->all_reduce(all, comm::Reduce::sum, stream).wait_host();
    return 0;
  });
}
