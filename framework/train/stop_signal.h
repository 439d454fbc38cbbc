#pragma once
// A request to finish the step, save and end: SIGUSR1 always (mpirun and srun forward it); SIGTERM and SIGINT too where
// this process runs alone; SIGTERM too under srun, as Slurm sends it when it preempts a job. Not under mpirun, which
// follows its own SIGTERM with SIGKILL after a second.

#include <csignal>
#include <vector>

namespace dujiang::train {

/// From here on SIGUSR1 waits for a StopSignal, and does nothing once that is gone: a job that starts or ends needn't
/// die of it. Call it on the main thread before there are others.
void hold_stop_signal();

/// Takes the signals over while it lives, then gives them back. One at a time in a process.
class StopSignal {
 public:
  explicit StopSignal(bool alone);
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  /// The signal's number, or 0.
  int received() const;

 private:
  struct Taken {
    int number;
    struct sigaction before;
  };
  void take(int number);

  std::vector<Taken> taken_;
};

}  // namespace dujiang::train
