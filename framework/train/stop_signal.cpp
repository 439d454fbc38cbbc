#include "framework/train/stop_signal.h"

#include "comm/rendezvous/launch_environment.h"

namespace dujiang::train {
namespace {

volatile std::sig_atomic_t signal_received = 0;

void note(int number) {
  signal_received = number;
  // A second Ctrl-C or SIGTERM ends the process at once.
  if (number != SIGUSR1) std::signal(number, SIG_DFL);
}

void mask(int how, int number) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, number);
  pthread_sigmask(how, &set, nullptr);
}

}  // namespace

void hold_stop_signal() {
  // Blocked first: one that comes in between is kept, though ignored signals that aren't blocked are lost.
  mask(SIG_BLOCK, SIGUSR1);
  std::signal(SIGUSR1, SIG_IGN);
}

StopSignal::StopSignal(bool alone) {
  signal_received = 0;
  take(SIGUSR1);
  if (alone || comm::detect_launch().launcher == "srun") take(SIGTERM);
  if (alone) take(SIGINT);
  mask(SIG_UNBLOCK, SIGUSR1);
}

StopSignal::~StopSignal() {
  for (const auto& taken : taken_) sigaction(taken.number, &taken.before, nullptr);
}

void StopSignal::take(int number) {
  struct sigaction action {};
  action.sa_handler = note;
  action.sa_flags = SA_RESTART;
  Taken taken{number, {}};
  if (sigaction(number, &action, &taken.before) == 0) taken_.push_back(taken);
}

int StopSignal::received() const {
  return signal_received;
}

}  // namespace dujiang::train
