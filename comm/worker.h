#pragma once
// One thread that runs tasks in the order given; it sleeps while there are none. Host transports run operations on it
// while compute goes on.

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

 private:
  class Task;
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Task>> queue_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace dujiang::comm
