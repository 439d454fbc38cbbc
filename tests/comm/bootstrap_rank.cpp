// A rank of a job, for bootstrap.sh: bootstrap_rank TRANSPORT BOOTSTRAP_TIMEOUT_MS [hang RANK | fail RANK]. It makes
// the job's communicator and says so; rank RANK hangs before, or fails after the ranks have met.

#include <cstdlib>
#include <string>
#include <thread>

#include "comm/bootstrap.h"
#include "framework/base/check.h"

using namespace dujiang;

int main(int argc, char** argv) {
  if (argc < 3) return 64;
  return comm::run_job([&] {
    const std::string what = argc > 4 ? argv[3] : "";
    const bool me = argc > 4 && std::to_string(comm::detect_launch().rank) == argv[4];
    if (what == "hang" && me) std::this_thread::sleep_for(std::chrono::minutes(2));
    const auto world = comm::make_communicator(
        {.transport = argv[1], .bootstrap_timeout = std::chrono::milliseconds(std::atoi(argv[2]))});
    Stream stream{Device{}};
    if (what == "fail" && me) fail("the fault of one");
    world->barrier(stream).wait_host();
    fmt::print("rank {} of {} by {}, {} of {} here\n", world->rank(), world->size(), world->transport(),
               world->local_rank(), world->local_size());
    return 0;
  });
}
