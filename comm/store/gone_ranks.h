#pragma once
// The ranks that a store knows to be gone, and who wants to hear of them: Store::gone() and Store::on_gone().

#include <functional>
#include <mutex>
#include <set>
#include <vector>

namespace dujiang::comm {

class GoneRanks {
 public:
  std::vector<int> all() const {
    const std::lock_guard lock(mutex_);
    return {ranks_.begin(), ranks_.end()};
  }
  /// Returns whether the rank is new; then tell(), without a lock that a listener or the store's callers may want.
  bool add(int rank) {
    const std::lock_guard lock(mutex_);
    return ranks_.insert(rank).second;
  }
  void tell() {
    const std::lock_guard lock(listener_mutex_);
    if (listener_) listener_();
  }
  /// As Store::on_gone.
  void listen(std::function<void()> listener) {
    const std::lock_guard lock(listener_mutex_);
    listener_ = std::move(listener);
    if (listener_ && !all().empty()) listener_();
  }

 private:
  mutable std::mutex mutex_;
  std::set<int> ranks_;
  std::mutex listener_mutex_;
  std::function<void()> listener_;
};

}  // namespace dujiang::comm
