#pragma once
// One thread that runs tasks in the order given; it sleeps while there are none. Host transports run operations on it
// while compute goes on. A task that is short may run on the caller's own thread instead, in its turn.

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "comm/communicator.h"

namespace dujiang::comm {

class Worker {
 public:
  Worker();
  /// Runs what is queued, then joins.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// Queues a task. What it throws is thrown again where its Work is waited for.
  Work submit(std::function<void()> task);

  /// The same, in two steps: when nothing is queued or running, `begin` runs at once on the caller's thread, and if it
  /// returns true the task is complete. Otherwise `finish` is queued; it is told whether `begin` has run.
  /// A caller that waits runs what is queued itself unless the thread has begun with it.
  Work submit(const std::function<bool()>& begin, std::function<void(bool begun)> finish);

 private:
  class Task;
  void run();
  void run_front(std::unique_lock<std::mutex>& lock);
  void help_until(const Task& task);

  std::mutex mutex_;
  std::condition_variable work_;  ///< for the thread: something is queued and nothing runs
  std::condition_variable done_;  ///< for those that wait: a task has run
  std::deque<std::shared_ptr<Task>> queue_;
  bool running_ = false;  ///< a task runs, on whatever thread
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace dujiang::comm
