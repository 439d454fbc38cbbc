#include "comm/worker.h"

#include <exception>
#include <utility>

namespace dujiang::comm {

class Worker::Task final : public Work::State {
 public:
  explicit Task(std::function<void()> body) : body_(std::move(body)) {}

  void run() {
    std::exception_ptr error;
    try {
      body_();
    } catch (...) {
      error = std::current_exception();
    }
    body_ = nullptr;  // what it holds must not live as long as the last handle
    const std::lock_guard lock(mutex_);
    error_ = error;
    done_ = true;
    changed_.notify_all();
  }

  void wait(Stream&) override { wait_host(); }

  void wait_host() override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return done_; });
    if (error_) std::rethrow_exception(error_);
  }

  bool query() override {
    const std::lock_guard lock(mutex_);
    return done_;
  }

 private:
  std::function<void()> body_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::exception_ptr error_;
  bool done_ = false;
};

Worker::Worker() : thread_([this] { run(); }) {}

Worker::~Worker() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

Work Worker::submit(std::function<void()> task) {
  auto entry = std::make_shared<Task>(std::move(task));
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(entry);
  }
  changed_.notify_one();
  return Work(std::move(entry));
}

void Worker::run() {
  for (;;) {
    std::shared_ptr<Task> task;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stop_ || !queue_.empty(); });
      if (queue_.empty()) return;
      task = std::move(queue_.front());
      queue_.pop_front();
    }
    task->run();
  }
}

}  // namespace dujiang::comm
