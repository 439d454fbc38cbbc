#include "comm/host/worker.h"

#include <exception>
#include <utility>

namespace dujiang::comm {

// Its state is guarded by the worker's mutex. Outlives the worker only once done.
class Worker::Task final : public Work::State {
 public:
  Task(Worker& worker, std::function<void()> body) : worker_(worker), body_(std::move(body)) {}

  void run() {
    try {
      body_();
    } catch (...) {
      error_ = std::current_exception();
    }
    body_ = nullptr;  // what it holds must not live as long as the last handle
  }
  void complete() { done_.store(true, std::memory_order_release); }

  void wait(Stream&) override { wait_host(); }

  void wait_host() override {
    if (!done_.load(std::memory_order_acquire)) worker_.help_until(*this);
    if (error_) std::rethrow_exception(error_);
  }

  bool query() override { return done_.load(std::memory_order_acquire); }

 private:
  Worker& worker_;
  std::function<void()> body_;
  std::exception_ptr error_;
  std::atomic<bool> done_{false};
};

Worker::Worker() : thread_([this] { run(); }) {}

Worker::~Worker() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  work_.notify_one();
  thread_.join();
}

Work Worker::submit(std::function<void()> task) {
  auto entry = std::make_shared<Task>(*this, std::move(task));
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(entry);
  }
  work_.notify_one();
  return Work(std::move(entry));
}

Work Worker::submit(const std::function<bool()>& begin, std::function<void(bool)> finish) {
  std::unique_lock lock(mutex_);
  if (running_ || !queue_.empty()) {
    lock.unlock();
    return submit([finish = std::move(finish)] { finish(false); });
  }
  running_ = true;
  lock.unlock();
  std::exception_ptr error;
  bool complete = false;
  try {
    complete = begin();
  } catch (...) {
    error = std::current_exception();
  }
  std::shared_ptr<Task> entry;
  if (!complete) {
    entry = std::make_shared<Task>(*this, [error, finish = std::move(finish)] {
      if (error) std::rethrow_exception(error);
      finish(true);
    });
  }
  lock.lock();
  running_ = false;
  if (entry) queue_.push_front(entry);
  const bool more = !queue_.empty();
  lock.unlock();
  if (more) work_.notify_one();
  return Work(std::move(entry));
}

void Worker::run_front(std::unique_lock<std::mutex>& lock) {
  const auto task = std::move(queue_.front());
  queue_.pop_front();
  running_ = true;
  lock.unlock();
  task->run();
  lock.lock();
  running_ = false;
  task->complete();
  done_.notify_all();
  if (!queue_.empty()) work_.notify_one();
}

void Worker::help_until(const Task& task) {
  std::unique_lock lock(mutex_);
  while (!const_cast<Task&>(task).query()) {
    if (!running_ && !queue_.empty()) {
      run_front(lock);
    } else {
      done_.wait(lock);
    }
  }
}

void Worker::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    work_.wait(lock, [this] { return !running_ && (stop_ || !queue_.empty()); });
    if (queue_.empty()) return;
    run_front(lock);
  }
}

}  // namespace dujiang::comm
