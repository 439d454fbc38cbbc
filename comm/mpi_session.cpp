#include "comm/mpi_session.h"

#include <mpi.h>
#include <sys/prctl.h>

#include <exception>

#include "framework/base/check.h"

namespace dujiang::comm {

bool mpi_running() {
  int initialized = 0, finalized = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  return initialized != 0 && finalized == 0;
}

MpiSession::MpiSession() {
  worker_
      .submit([] {
        int initialized = 0;
        MPI_Initialized(&initialized);
        DUJIANG_CHECK(initialized == 0,
                      "MPI was already initialised in this process; make one communicator of "
                      "transport mpi and split it");
        int provided = 0;
        // Serialized, as MPI_Abort may come from another thread once this one has stopped.
        MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided);
        DUJIANG_CHECK(provided >= MPI_THREAD_SERIALIZED,
                      "MPI gives thread level {}, expected MPI_THREAD_SERIALIZED ({})", provided,
                      MPI_THREAD_SERIALIZED);
        // The default slack of 50 us would make every short sleep between polls that much longer.
        prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL);
      })
      .wait_host();
}

MpiSession::~MpiSession() {
  if (!cancelled_ && std::uncaught_exceptions() == 0) worker_.submit([] { MPI_Finalize(); });
}

void abort_mpi_job(int status) {
  if (mpi_running()) MPI_Abort(MPI_COMM_WORLD, status);
}

}  // namespace dujiang::comm
