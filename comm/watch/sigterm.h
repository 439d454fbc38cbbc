#pragma once
// SIGTERM as news for the watchdog: a launcher sends it to the survivors when a rank's process has died, and they
// shall name that rank before they end.

#include <atomic>

namespace dujiang::comm {

/// While it lives, SIGTERM adds to an eventfd and sets a flag instead of ending the process; only where its disposition
/// is the default one, so that a program's own handler keeps its meaning. One at a time in a process: a second does
/// nothing.
class SigtermNotice {
 public:
  explicit SigtermNotice(int event_fd);
  ~SigtermNotice();
  SigtermNotice(const SigtermNotice&) = delete;
  SigtermNotice& operator=(const SigtermNotice&) = delete;

  bool received() const;
  /// Ends the process as SIGTERM would have without this.
  [[noreturn]] static void end_by_default();

 private:
  bool installed_ = false;
};

}  // namespace dujiang::comm
