#pragma once
// Store: a small key-value store that all processes of a job reach before they have a communicator, and that the
// watchdog uses while they run. Keys have 1 to 512 bytes, values at most 64 KiB.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dujiang::comm {

using Deadline = std::chrono::steady_clock::time_point;

class Store {
 public:
  /// Says farewell, so that this rank doesn't count as gone; not after abandon() or while an exception unwinds.
  virtual ~Store() = default;
  /// Keys that begin with "ended/" reach every rank at once, and can be read when rank 0 and its store have gone.
  virtual void set(std::string_view key, std::string_view value) = 0;
  /// What is there now. Throws Error when the store can't be reached within a few seconds.
  virtual std::optional<std::string> get(std::string_view key) = 0;
  /// Every key that begins with `prefix`, in order.
  virtual std::vector<std::pair<std::string, std::string>> list(std::string_view prefix) = 0;
  virtual void remove(std::string_view key) = 0;
  /// Ranks of the job whose process ended without a farewell, as far as this store can tell. Never blocks, never
  /// throws; includes 0 when the store's own process is gone.
  virtual std::vector<int> gone() = 0;
  /// Called, from a thread of the store's, as soon as gone() has grown, or is not empty. One listener, null for none:
  /// the one before is not running any more on return. A listener may call gone() and nothing else of the store.
  virtual void on_gone(std::function<void()> listener) = 0;
  /// Where it is, for messages: "tcp 10.0.0.1:29500", "file /shared/job-7".
  virtual std::string where() const = 0;
  /// This process is about to end with an error: the destructor says no farewell and waits for nobody.
  void abandon() { abandoned_ = true; }

  /// Waits for a key. Throws UserError that names the store, the key and `who` it is expected from.
  std::string wait(std::string_view key, std::string_view who, Deadline deadline);
  /// Every rank gives its value and gets everyone's, in rank order. `name` is unique to this exchange. Throws
  /// UserError that names the ranks whose value did not come.
  std::vector<std::string> exchange(std::string_view name, int rank, int size, std::string_view value,
                                    Deadline deadline);

 protected:
  static void check_key(std::string_view key);
  static void check_value(std::string_view key, std::string_view value);
  bool ends_in_order() const { return !abandoned_ && std::uncaught_exceptions() == 0; }

 private:
  std::atomic<bool> abandoned_{false};
};

/// Where a job's TCP store listens, and the secret that tells its peers from strangers.
struct StoreAddress {
  std::vector<std::string> hosts;  ///< names or addresses, tried in turn until one answers with the token
  int port = 0;                    ///< 0 for a server: any free one
  std::string token;               ///< up to 64 bytes
};

/// Rank 0's side: listens and serves from a thread of its own, and is a client of itself. Throws UserError when the
/// port is in use or the address isn't this machine's. `address.port` receives the port. The destructor waits up to
/// five seconds for the other ranks' farewell.
std::shared_ptr<Store> serve_tcp_store(StoreAddress& address, int size);

/// The other ranks' side. Tries until the deadline; then throws UserError naming every address tried and what came of
/// it (refused, no route, no answer, a wrong token, another rank with this number).
std::shared_ptr<Store> connect_tcp_store(const StoreAddress& address, int rank, int size, Deadline deadline);

/// A folder on a file system that all ranks share. `gone()` sees only processes of this host. Throws UserError when it
/// can't be written, or is left over from another job (its token differs).
std::shared_ptr<Store> open_file_store(const std::string& folder, std::string_view token, int rank, int size,
                                       Deadline deadline);

}  // namespace dujiang::comm
