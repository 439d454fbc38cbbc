#pragma once
// A request to finish the step, save and end: SIGUSR1 always (mpirun forwards it); SIGTERM and SIGINT too where this
// process runs alone, since mpirun follows its own SIGTERM with SIGKILL after a second.

namespace dujiang::train {

/// Takes the signals over while it lives. One at a time in a process.
class StopSignal {
 public:
  explicit StopSignal(bool alone);
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  /// The signal's number, or 0.
  int received() const;

 private:
  bool alone_;
};

}  // namespace dujiang::train
