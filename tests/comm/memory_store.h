#pragma once
// A store among threads, for tests: ranks can be declared gone, and the store can be made to hang.

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "comm/store/store.h"

namespace dujiang::comm {

class MemoryStore final : public Store {
 public:
  struct Hub {
    std::mutex mutex;
    std::condition_variable changed;
    std::map<std::string, std::string, std::less<>> values;
    std::set<int> gone;
    std::map<const MemoryStore*, std::function<void()>> listeners;
    bool hangs = false;

    /// A process of a rank died.
    void lose(int rank) {
      const std::lock_guard lock(mutex);
      gone.insert(rank);
      for (const auto& [store, listener] : listeners) listener();
    }
    void hang(bool on) {
      const std::lock_guard lock(mutex);
      hangs = on;
      changed.notify_all();
    }
  };

  explicit MemoryStore(std::shared_ptr<Hub> hub) : hub_(std::move(hub)) {}

  void set(std::string_view key, std::string_view value) override {
    const auto lock = enter();
    hub_->values.insert_or_assign(std::string(key), std::string(value));
  }
  std::optional<std::string> get(std::string_view key) override {
    const auto lock = enter();
    const auto found = hub_->values.find(key);
    if (found == hub_->values.end()) return {};
    return found->second;
  }
  std::vector<std::pair<std::string, std::string>> list(std::string_view prefix) override {
    const auto lock = enter();
    std::vector<std::pair<std::string, std::string>> found;
    for (const auto& pair : hub_->values) {
      if (pair.first.starts_with(prefix)) found.push_back(pair);
    }
    return found;
  }
  void remove(std::string_view key) override {
    const auto lock = enter();
    hub_->values.erase(std::string(key));
  }
  std::vector<int> gone() override {
    const std::lock_guard lock(hub_->mutex);
    return {hub_->gone.begin(), hub_->gone.end()};
  }
  void on_gone(std::function<void()> listener) override {
    const std::lock_guard lock(hub_->mutex);
    hub_->listeners.erase(this);
    if (listener) hub_->listeners[this] = std::move(listener);
  }
  std::string where() const override { return "memory of this test"; }

 private:
  // While the store hangs its callers wait.
  std::unique_lock<std::mutex> enter() {
    std::unique_lock lock(hub_->mutex);
    hub_->changed.wait(lock, [this] { return !hub_->hangs; });
    return lock;
  }

  const std::shared_ptr<Hub> hub_;
};

}  // namespace dujiang::comm
