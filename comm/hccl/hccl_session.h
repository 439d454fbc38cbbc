#pragma once
// What one HCCL communicator has under way: starts operations on the device's streams, watches their events from a
// thread of its own (which sleeps while nothing runs) and turns failures into sentences. Internal to the hccl
// transport.

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "comm/communicator.h"
#include "comm/hccl/hccl_library.h"

namespace dujiang::hccl {

/// Owns a vendor's communicator. Sub-communicators share the global one, which must go last.
class Handle {
 public:
  Handle(std::shared_ptr<const Library> library, HcclComm comm, int device)
      : library_(std::move(library)), comm_(comm), device_(device) {}
  /// Gives up when the communicator stays busy for some seconds.
  ~Handle();
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  HcclComm get() const { return comm_; }
  const Library& library() const { return *library_; }
  const std::shared_ptr<const Library>& shared_library() const { return library_; }
  int device() const { return device_; }

 private:
  std::shared_ptr<const Library> library_;
  HcclComm comm_;
  int device_;
};

class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(std::shared_ptr<Handle> handle, std::shared_ptr<comm::Flight> flight);
  ~Session();

  /// Queues what `launch` asks of HCCL on the stream, between two events. `keep` lives until it has run. Throws the
  /// sentence of the failure.
  comm::Work start(const comm::Request& request, aclrtStream stream, const std::function<HcclResult()>& launch,
                   std::shared_ptr<void> keep);
  /// Waits until everything started has run; throws the failure, if there is one.
  void drain();
  /// Ends the session: waits for what is under way, or, after a failure and when `abandon`, aborts its streams. Gives
  /// the handle up. Never throws.
  void close(bool abandon) noexcept;

 private:
  class Operation;
  void monitor();
  bool settle(Operation& operation);
  bool settled(Operation& operation);
  void look_for_failure();
  void fail_all(const std::string& why);
  std::string sentence(const Operation& operation, const std::string& what) const;
  void destroy(aclrtEvent event) const;

  const std::shared_ptr<const Library> library_;
  const std::shared_ptr<comm::Flight> flight_;
  const int device_;
  std::shared_ptr<Handle> handle_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Operation>> running_;
  std::deque<aclrtEvent> retired_;  // streams may still be about to wait for them
  std::string failure_;
  bool stop_ = false;
  std::thread monitor_;
};

}  // namespace dujiang::hccl
