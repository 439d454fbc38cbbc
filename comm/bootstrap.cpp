#include "comm/bootstrap.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <thread>

#include "comm/mpi_communicator.h"
#include "comm/mpi_session.h"
#include "comm/self_communicator.h"
#include "framework/base/check.h"

namespace dujiang::comm {
namespace {

// Prints once for the job: ranks that fail alike are ended by the lowest before their turn comes.
int end_job(const Launch& launch, const char* message, int status) {
  if (launch.rank > 0) {
    std::signal(SIGTERM, SIG_DFL);
    // MPI_Abort reaches the others within milliseconds; mpirun takes a second to end those that never called MPI.
    const int first = mpi_running() ? 1000 : 3000;
    std::this_thread::sleep_for(std::chrono::milliseconds(first + 500 * std::min(launch.rank - 1, 6)));
  }
  std::fflush(stdout);
  if (launch.size > 1) {
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
  const auto& transport = options.transport;
  const Launch launch = detect_launch();
  if (transport == "mpi" || (transport == "auto" && !launch.launcher.empty())) {
    auto world = make_mpi_communicator(std::make_shared<MpiSession>(), nullptr);
    DUJIANG_CHECK(launch.size <= 1 || world->size() == launch.size,
                  "{} started {} ranks, but MPI sees {}: the program and the launcher belong to different MPIs",
                  launch.launcher, launch.size, world->size());
    return world;
  }
  if (transport == "self" && launch.size > 1) {
    fail_user("comm.transport is self, but {} started {} ranks: use auto or mpi, or start one process", launch.launcher,
              launch.size);
  }
  if (transport == "self" || transport == "auto") return make_self_communicator();
  fail_user("comm.transport is \"{}\", expected auto, self or mpi", transport);
}

int run_job(const std::function<int()>& body) {
  Launch launch;
  try {
    launch = detect_launch();
    return body();
  } catch (const Error& e) {
    return end_job(launch, e.what(), e.exit_status());
  } catch (const std::exception& e) {
    return end_job(launch, e.what(), 1);
  }
}

}  // namespace dujiang::comm
