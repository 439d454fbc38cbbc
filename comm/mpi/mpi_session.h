#pragma once
// MPI in this process: initialised once, every call made by one thread, finalised or left to the job's end. That thread
// advances the transfers of all communicators at once while others compute, and sleeps while there are none.

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace dujiang::comm {

/// One message to or from a rank of an MPI communicator.
struct MpiMessage {
  bool send = false;
  void* data = nullptr;  ///< a send only reads it
  std::size_t bytes = 0;
  int peer = 0, tag = 0;
};

class MpiSession {
 public:
  /// Initialises MPI. Throws Error where that was done before: MPI can't start twice in a process.
  MpiSession();
  /// Finalises MPI, which waits for the other ranks; not after cancel() or while an exception
  /// unwinds, as they may never come.
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  /// A number for every rank's host: its lowest rank.
  const std::vector<int>& hosts() const { return hosts_; }
  /// Whether all ranks of the job run on this host.
  bool one_host() const;
  /// Collective. Everyone gets rank 0's value.
  std::string broadcast_bytes(std::string value);

  /// Runs `body` on MPI's thread and returns when it has; throws what it throws. For calls that return soon.
  void call(std::function<void()> body);

  class Transfer;
  /// Starts messages on an MPI communicator. They must end up complete: wait() for them before the buffers go.
  std::shared_ptr<Transfer> start(void* mpi_comm, std::vector<MpiMessage> messages);
  /// Throws Error when a transfer failed or the session is cancelled.
  void wait(Transfer& transfer);

  /// Transfers under way and to come fail. For a job that is about to end.
  void cancel();
  bool cancelled() const { return cancelled_; }

 private:
  void run();
  void post(std::function<void()> task);

  std::atomic<bool> cancelled_{false};
  int rank_ = 0, size_ = 1;
  std::vector<int> hosts_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  std::list<std::shared_ptr<Transfer>> active_;  ///< of MPI's thread alone
  bool stop_ = false;
  std::thread thread_;
};

/// Whether MPI is initialised and not yet finalised in this process.
bool mpi_running();

/// Ends every rank of the job with this status when MPI is running in this process; else just returns.
void abort_mpi_job(int status);

}  // namespace dujiang::comm
