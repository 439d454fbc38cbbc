#include "comm/watch/sigterm.h"

#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace dujiang::comm {
namespace {

// What the handler reaches; a handler has no other way.
constexpr int nobody = -1;
std::atomic<int> listener{nobody};
std::atomic<bool> arrived{false};
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

void note(int) {
  const int saved = errno;
  arrived = true;
  const std::uint64_t one = 1;
  if (const int fd = listener; fd != nobody) [[maybe_unused]]
    const auto written = write(fd, &one, sizeof one);
  errno = saved;
}

}  // namespace

SigtermNotice::SigtermNotice(int event_fd) {
  struct sigaction before = {};
  if (sigaction(SIGTERM, nullptr, &before) != 0 || before.sa_handler != SIG_DFL) return;
  int expected = nobody;
  if (!listener.compare_exchange_strong(expected, event_fd)) return;
  arrived = false;
  struct sigaction action = {};
  action.sa_handler = note;
  action.sa_flags = SA_RESTART;
  installed_ = sigaction(SIGTERM, &action, nullptr) == 0;
}

SigtermNotice::~SigtermNotice() {
  if (!installed_) return;
  struct sigaction now = {};
  sigaction(SIGTERM, nullptr, &now);
  if (now.sa_handler == note) signal(SIGTERM, SIG_DFL);  // else somebody has taken it over meanwhile
  listener = nobody;
}

bool SigtermNotice::received() const {
  return installed_ && arrived;
}

void SigtermNotice::end_by_default() {
  signal(SIGTERM, SIG_DFL);
  kill(getpid(), SIGTERM);
  for (;;) pause();
}

}  // namespace dujiang::comm
