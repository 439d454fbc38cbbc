#pragma once
// How many compute threads a rank runs, and on which processors.

#include <string>
#include <vector>

#include "comm/communicator.h"

namespace dujiang::train {

struct RankThreads {
  int threads = 1;              ///< of compute
  std::vector<int> processors;  ///< that this rank may use: its affinity, as the user, mpirun or Slurm gave it
  double share = 1;             ///< of these, where each is divided among the host's ranks that may use it
  bool pinned = false;          ///< a processor for each thread: the workers stay on theirs

  /// "2 threads pinned to processors 0, 1", "4 threads on processors 0 to 7"
  std::string str() const;
};

/// Sets the number of compute threads of the calling thread: `wanted` where positive, else what OMP_NUM_THREADS says,
/// else this rank's share of processors. Warns where the ranks of a host have more threads than processors. Threads are
/// pinned where they have all of this rank's processors to themselves and OMP_PROC_BIND, OMP_PLACES and
/// GOMP_CPU_AFFINITY say nothing; never the calling thread, whose affinity later threads inherit. Collective.
RankThreads set_rank_threads(int wanted, comm::Communicator& communicator);

}  // namespace dujiang::train
