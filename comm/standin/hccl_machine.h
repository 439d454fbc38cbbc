#pragma once
// The machine that the HCCL stand-in pretends to be: devices, their memory, streams and events. One per process, as the
// C functions have no other place for it.

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "comm/hccl/hccl_abi.h"
#include "comm/standin/device_runtime.h"
#include "comm/standin/faults.h"

namespace dujiang::hccl {

// Codes of ACL that the stand-in returns.
inline constexpr aclError acl_invalid_param = 107000, acl_invalid_device = 107001, acl_no_context = 107002,
                          acl_uninitialised = 100001, acl_no_memory = 207001, acl_internal = 500000,
                          acl_stream_failed = 507011, acl_task_aborted = 507013;

class Machine {
 public:
  static Machine& instance();

  int devices = 8;
  std::chrono::milliseconds connect_timeout{120'000};
  standin::DeviceMemory memory;
  standin::Faults faults;

  /// 0 when ACL is initialised and this thread has a device, else the code to return.
  aclError ready() const;
  bool initialise();
  void finalise();
  int device() const;
  void set_device(int device);

  /// The objects behind handles; null for a handle that isn't (or no longer) one.
  std::shared_ptr<standin::HostStream> stream(aclrtStream handle) const;
  std::shared_ptr<standin::HostEvent> event(aclrtEvent handle) const;
  aclrtStream add(std::shared_ptr<standin::HostStream> stream);
  aclrtEvent add(std::shared_ptr<standin::HostEvent> event);
  bool remove_stream(aclrtStream handle);
  bool remove_event(aclrtEvent handle);

  /// What aclGetRecentErrMsg says next on this thread.
  void say(std::string words) const;

 private:
  Machine();
  mutable std::mutex mutex_;
  bool initialised_ = false;
  std::map<void*, std::shared_ptr<standin::HostStream>> streams_;
  std::map<void*, std::shared_ptr<standin::HostEvent>> events_;
};

/// The code of a fault meant for this call of `function`, or 0. Never returns for `block`.
int injected(const char* function, std::optional<standin::Fault>* other = nullptr);

}  // namespace dujiang::hccl

#define DUJIANG_EXPORT extern "C" __attribute__((visibility("default")))
