#pragma once
// What the launcher says of this process, read from the environment without a call to MPI.

#include <optional>
#include <string>

#include "comm/store/store.h"

namespace dujiang::comm {

struct Launch {
  std::string launcher;  ///< "mpirun", "srun", "pmi", "environment" (RANK, WORLD_SIZE), or empty: started alone
  int rank = 0;
  int size = 1;                        ///< 0 where only MPI knows (PMIX_RANK and nothing else)
  int local_rank = 0, local_size = 1;  ///< on this host, where the launcher tells; else 0 of 1
  bool mpi = false;                    ///< whether MPI_Init finds the other ranks (mpirun, or srun with PMIx)
  std::optional<StoreAddress> store;   ///< MASTER_ADDR, MASTER_PORT; unset where DUJIANG_STORE is there
  std::string store_folder;            ///< DUJIANG_STORE
  std::string token;                   ///< DUJIANG_JOB_TOKEN, else made from what the launcher says of the job
};

/// Of these the first that is there decides: OMPI_COMM_WORLD_RANK and _SIZE (mpirun), RANK and WORLD_SIZE, SLURM_PROCID
/// of a step (srun), PMIX_RANK, PMI_RANK and PMI_SIZE. Throws UserError for variables that contradict one another or
/// aren't numbers (rank 4 of 4, MASTER_ADDR without MASTER_PORT), and for several ranks that nothing lets find one
/// another.
Launch detect_launch();

}  // namespace dujiang::comm
