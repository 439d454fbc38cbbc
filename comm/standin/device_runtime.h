#pragma once
// What a device's runtime does, on host memory: asynchronous streams, events, and memory whose ranges are known. The
// stand-ins of the vendors' libraries put their C functions in front of it.

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

namespace dujiang::standin {

/// One recording of an event: done when the stream has come to it.
class Point {
 public:
  void complete(int status);
  bool done() const;
  /// 0, or the status of the failed stream that it was recorded on. Meaningful when done.
  int status() const;
  /// Waits until done; false when `interrupted` became true before.
  bool wait(const std::function<bool()>& interrupted) const;

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  bool done_ = false;
  int status_ = 0;
};

/// A queue of tasks that one thread runs in order. The first task that returns a status other than 0 makes the stream
/// fail: what is queued after it isn't run, and points behind it are complete with that status.
class HostStream {
 public:
  using Task = std::function<int(HostStream&)>;

  HostStream();
  /// Runs what is queued to its end, unless aborted.
  ~HostStream();
  HostStream(const HostStream&) = delete;
  HostStream& operator=(const HostStream&) = delete;

  void submit(Task task);
  /// Waits until everything queued before has run. False when `timeout` passed; status() tells how it went.
  bool synchronize(std::optional<std::chrono::milliseconds> timeout = std::nullopt);
  /// Whether nothing is queued or running.
  bool query() const;
  /// Interrupts what runs (its task sees aborted()), drops what is queued, completes every point with `status`, and
  /// returns when the thread is idle. The stream then takes new tasks.
  void abort(int status);
  /// Asked by a running task that waits.
  bool aborted() const;
  /// 0, or what the first failed task returned.
  int status() const;

  /// A point behind everything queued so far.
  std::shared_ptr<Point> record();
  /// What is queued from now on waits for the point.
  void wait(std::shared_ptr<Point> point);

 private:
  struct Entry {
    Task task;
    std::shared_ptr<Point> point;  ///< completed after the task, or instead of it
  };
  void run();
  void enqueue(Entry entry);

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Entry> queue_;
  bool running_ = false, stop_ = false, aborted_ = false;
  int status_ = 0;
  std::thread thread_;
};

/// An event that may be recorded again and again; waits see the latest recording. Complete while never recorded.
class HostEvent {
 public:
  void record(HostStream& stream);
  void wait_by(HostStream& stream) const;
  bool query() const;
  /// Waits for the latest recording and returns its status.
  int synchronize() const;
  /// 0, or the failed stream's status once the recording is done.
  int status() const;

 private:
  std::shared_ptr<Point> point() const;
  mutable std::mutex mutex_;
  std::shared_ptr<Point> point_;
};

/// Host memory that stands for a device's.
class DeviceMemory {
 public:
  /// At most `limit` bytes at any time.
  explicit DeviceMemory(std::size_t limit = SIZE_MAX) : limit_(limit) {}
  /// Not zeroed, aligned to 512 bytes; null when the limit is reached or the host has none.
  void* allocate(std::size_t bytes);
  /// False for a pointer that allocate() didn't return, or that was freed before.
  bool free(void* pointer);
  /// Whether [pointer, pointer + bytes) lies within one allocation.
  bool contains(const void* pointer, std::size_t bytes) const;
  std::size_t in_use() const;

 private:
  struct Freed {
    void operator()(void* p) const;
  };
  struct Range {
    std::unique_ptr<void, Freed> memory;
    std::size_t bytes = 0;
  };
  const std::size_t limit_;
  mutable std::mutex mutex_;
  std::map<std::uintptr_t, Range> ranges_;
  std::size_t in_use_ = 0;
};

}  // namespace dujiang::standin
