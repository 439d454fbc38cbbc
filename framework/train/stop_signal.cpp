#include "framework/train/stop_signal.h"

#include <csignal>

namespace dujiang::train {
namespace {

volatile std::sig_atomic_t signal_received = 0;

void note(int number) {
  signal_received = number;
  // A second Ctrl-C or SIGTERM ends the process at once.
  if (number != SIGUSR1) std::signal(number, SIG_DFL);
}

}  // namespace

StopSignal::StopSignal(bool alone) : alone_(alone) {
  signal_received = 0;
  std::signal(SIGUSR1, note);
  if (alone_) {
    std::signal(SIGTERM, note);
    std::signal(SIGINT, note);
  }
}

StopSignal::~StopSignal() {
  std::signal(SIGUSR1, SIG_DFL);
  if (alone_) {
    std::signal(SIGTERM, SIG_DFL);
    std::signal(SIGINT, SIG_DFL);
  }
}

int StopSignal::received() const {
  return signal_received;
}

}  // namespace dujiang::train
