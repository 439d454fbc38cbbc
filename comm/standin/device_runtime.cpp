#include "comm/standin/device_runtime.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace dujiang::standin {
namespace {

// How long a wait that may be interrupted sleeps before it asks again.
constexpr std::chrono::milliseconds look{10};

}  // namespace

void Point::complete(int status) {
  const std::lock_guard lock(mutex_);
  if (done_) return;
  done_ = true;
  status_ = status;
  changed_.notify_all();
}

bool Point::done() const {
  const std::lock_guard lock(mutex_);
  return done_;
}

int Point::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

bool Point::wait(const std::function<bool()>& interrupted) const {
  std::unique_lock lock(mutex_);
  while (!done_) {
    if (interrupted && interrupted()) return false;
    changed_.wait_for(lock, look);
  }
  return true;
}

HostStream::HostStream() : thread_([this] { run(); }) {}

HostStream::~HostStream() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void HostStream::enqueue(Entry entry) {
  {
    const std::lock_guard lock(mutex_);
    if (aborted_) {  // an abort is under way: new work has no effect
      if (entry.point) entry.point->complete(status_);
      return;
    }
    queue_.push_back(std::move(entry));
  }
  changed_.notify_all();
}

void HostStream::submit(Task task) {
  enqueue({std::move(task), nullptr});
}

std::shared_ptr<Point> HostStream::record() {
  auto point = std::make_shared<Point>();
  enqueue({nullptr, point});
  return point;
}

void HostStream::wait(std::shared_ptr<Point> point) {
  submit([point = std::move(point)](HostStream& stream) {
    return point->wait([&] { return stream.aborted(); }) ? point->status() : 0;
  });
}

void HostStream::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stop_ || !queue_.empty(); });
    if (queue_.empty()) return;
    Entry entry = std::move(queue_.front());
    queue_.pop_front();
    running_ = true;
    int status = status_;
    if (entry.task && status == 0) {
      lock.unlock();
      status = entry.task(*this);
      lock.lock();
      if (status_ == 0) status_ = status;
    }
    if (entry.point) entry.point->complete(status_);
    lock.unlock();
    entry = {};  // what the task holds goes before the stream counts as idle
    lock.lock();
    running_ = false;
    changed_.notify_all();
  }
}

bool HostStream::synchronize(std::optional<std::chrono::milliseconds> timeout) {
  const auto point = record();
  if (!timeout) return point->wait(nullptr);
  const auto end = std::chrono::steady_clock::now() + *timeout;
  return point->wait([&] { return std::chrono::steady_clock::now() >= end; }) || point->done();
}

bool HostStream::query() const {
  const std::lock_guard lock(mutex_);
  return queue_.empty() && !running_;
}

void HostStream::abort(int status) {
  std::deque<Entry> dropped;
  std::unique_lock lock(mutex_);
  aborted_ = true;
  dropped.swap(queue_);
  for (const Entry& entry : dropped) {
    if (entry.point) entry.point->complete(status);
  }
  lock.unlock();
  dropped.clear();
  lock.lock();
  changed_.wait(lock, [this] { return !running_; });
  aborted_ = false;
}

bool HostStream::aborted() const {
  const std::lock_guard lock(mutex_);
  return aborted_;
}

int HostStream::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

std::shared_ptr<Point> HostEvent::point() const {
  const std::lock_guard lock(mutex_);
  return point_;
}

void HostEvent::record(HostStream& stream) {
  auto point = stream.record();
  const std::lock_guard lock(mutex_);
  point_ = std::move(point);
}

void HostEvent::wait_by(HostStream& stream) const {
  if (auto recorded = point()) stream.wait(std::move(recorded));
}

bool HostEvent::query() const {
  const auto recorded = point();
  return !recorded || recorded->done();
}

int HostEvent::synchronize() const {
  const auto recorded = point();
  if (!recorded) return 0;
  recorded->wait(nullptr);
  return recorded->status();
}

int HostEvent::status() const {
  const auto recorded = point();
  return recorded ? recorded->status() : 0;
}

void DeviceMemory::Freed::operator()(void* p) const {
  std::free(p);
}

void* DeviceMemory::allocate(std::size_t bytes) {
  constexpr std::size_t alignment = 512;
  const std::lock_guard lock(mutex_);
  if (bytes == 0 || bytes > limit_ - in_use_ || bytes > SIZE_MAX - alignment) return nullptr;
  void* memory = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (memory == nullptr) return nullptr;
  std::memset(memory, 0xcd, std::min<std::size_t>(bytes, 4096));  // nobody may count on zeros
  in_use_ += bytes;
  ranges_[reinterpret_cast<std::uintptr_t>(memory)] = {std::unique_ptr<void, Freed>(memory), bytes};
  return memory;
}

bool DeviceMemory::free(void* pointer) {
  const std::lock_guard lock(mutex_);
  const auto range = ranges_.find(reinterpret_cast<std::uintptr_t>(pointer));
  if (range == ranges_.end()) return false;
  in_use_ -= range->second.bytes;
  ranges_.erase(range);
  return true;
}

bool DeviceMemory::contains(const void* pointer, std::size_t bytes) const {
  const auto first = reinterpret_cast<std::uintptr_t>(pointer);
  const std::lock_guard lock(mutex_);
  auto after = ranges_.upper_bound(first);
  if (after == ranges_.begin()) return false;
  const auto& [begin, range] = *--after;
  const std::uintptr_t offset = first - begin;
  return offset <= range.bytes && bytes <= range.bytes - offset;
}

std::size_t DeviceMemory::in_use() const {
  const std::lock_guard lock(mutex_);
  return in_use_;
}

}  // namespace dujiang::standin
