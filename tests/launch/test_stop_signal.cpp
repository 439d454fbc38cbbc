#include <boost/test/unit_test.hpp>
#include <cstdlib>

#include "framework/train/stop_signal.h"

using dujiang::train::hold_stop_signal;
using dujiang::train::StopSignal;

// Each raise() that nothing takes would end this program.

BOOST_AUTO_TEST_CASE(sigusr1_before_training_waits_and_after_it_does_nothing) {
  hold_stop_signal();
  raise(SIGUSR1);
  {
    const StopSignal signal(false);
    BOOST_TEST(signal.received() == SIGUSR1);
  }
  raise(SIGUSR1);
  const StopSignal next(false);
  BOOST_TEST(next.received() == 0);
}

BOOST_AUTO_TEST_CASE(slurm_ranks_take_sigterm_and_mpirun_ranks_leave_it) {
  struct sigaction before {
  }, now{};
  sigaction(SIGTERM, nullptr, &before);
  setenv("OMPI_COMM_WORLD_RANK", "0", 1);
  setenv("OMPI_COMM_WORLD_SIZE", "2", 1);
  {
    const StopSignal signal(false);
    sigaction(SIGTERM, nullptr, &now);
    BOOST_TEST((now.sa_handler == before.sa_handler));
  }
  unsetenv("OMPI_COMM_WORLD_RANK");
  unsetenv("OMPI_COMM_WORLD_SIZE");
  for (const char* name : {"SLURM_STEP_ID", "SLURM_PROCID", "PMIX_RANK"}) setenv(name, "0", 1);
  setenv("SLURM_STEP_NUM_TASKS", "2", 1);
  {
    const StopSignal signal(false);
    raise(SIGTERM);
    BOOST_TEST(signal.received() == SIGTERM);
  }
  sigaction(SIGTERM, nullptr, &now);
  BOOST_TEST((now.sa_handler == before.sa_handler));
}
