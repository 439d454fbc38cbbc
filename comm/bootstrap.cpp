#include "comm/bootstrap.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <thread>

#include "comm/mpi_communicator.h"
#include "comm/mpi_session.h"
#include "comm/self_communicator.h"
#include "framework/base/check.h"

namespace dujiang::comm {
namespace {

bool present(const char* name) {
  return std::getenv(name) != nullptr;
}

int number(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  if (text == nullptr) return otherwise;
  int value = 0;
  const auto [end, error] = std::from_chars(text, text + std::strlen(text), value);
  if (error != std::errc() || *end != '\0' || value < 0) {
    fail_user("environment variable {} is \"{}\", expected a number as the launcher sets it", name, text);
  }
  return value;
}

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

Launch detect_launch() {
  if (present("OMPI_COMM_WORLD_SIZE")) {
    Launch launch;
    launch.launcher = "mpirun";
    launch.rank = number("OMPI_COMM_WORLD_RANK", 0);
    launch.size = number("OMPI_COMM_WORLD_SIZE", 1);
    return launch;
  }
  const bool step = present("SLURM_STEP_ID") && present("SLURM_PROCID");
  const int tasks = step ? number("SLURM_STEP_NUM_TASKS", number("SLURM_NTASKS", 1)) : 1;
  if (present("PMIX_RANK")) {
    Launch launch;
    launch.launcher = step ? "srun" : "mpirun";
    launch.rank = number("PMIX_RANK", 0);
    launch.size = tasks;
    return launch;
  }
  if (tasks > 1) {
    fail_user("srun started {} tasks without PMIx, so they can't find one another: use srun --mpi=pmix, or mpirun",
              tasks);
  }
  return {};
}

std::unique_ptr<Communicator> make_communicator(const Options& options) {
  const auto& transport = options.transport;
  const Launch launch = detect_launch();
  if (transport == "mpi" || (transport == "auto" && !launch.launcher.empty())) {
    auto world = make_mpi_communicator();
    DUJIANG_CHECK(launch.size == 1 || world->size() == launch.size,
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
