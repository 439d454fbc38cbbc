// The ACL runtime's C functions on host memory; what they promise is on the real library's pages, and what they refuse
// is listed in hccl_standin.cpp.

#include <chrono>
#include <cstring>

#include "comm/standin/hccl_machine.h"

namespace dujiang::hccl {
namespace {

using standin::HostEvent;
using standin::HostStream;

// Before every call that needs a device: an injected code, or that ACL isn't ready.
aclError refused(const char* function) {
  if (const int code = injected(function)) return code;
  const aclError code = Machine::instance().ready();
  if (code != acl_success) Machine::instance().say(std::string(function) + ": this thread has no device");
  return code;
}

bool in_device_memory(const void* p, std::size_t bytes) {
  if (Machine::instance().memory.contains(p, bytes)) return true;
  Machine::instance().say("EE1001: the address isn't the device's");
  return false;
}

}  // namespace

DUJIANG_EXPORT aclError aclInit(const char*) {
  if (const int code = injected("aclInit")) return code;
  return Machine::instance().initialise() ? acl_success : acl_repeated_init;
}

DUJIANG_EXPORT aclError aclFinalize() {
  Machine::instance().finalise();
  return acl_success;
}

DUJIANG_EXPORT aclError aclrtGetDeviceCount(std::uint32_t* count) {
  if (const int code = injected("aclrtGetDeviceCount")) return code;
  *count = static_cast<std::uint32_t>(Machine::instance().devices);
  return acl_success;
}

DUJIANG_EXPORT aclError aclrtSetDevice(std::int32_t device) {
  if (const int code = injected("aclrtSetDevice")) return code;
  if (device < 0 || device >= Machine::instance().devices) return acl_invalid_device;
  Machine::instance().set_device(device);
  return acl_success;
}

DUJIANG_EXPORT aclError aclrtResetDevice(std::int32_t device) {
  if (device != Machine::instance().device()) return acl_invalid_device;
  Machine::instance().set_device(-1);
  return acl_success;
}

DUJIANG_EXPORT aclError aclrtGetDevice(std::int32_t* device) {
  *device = Machine::instance().device();
  return *device < 0 ? acl_no_context : acl_success;
}

DUJIANG_EXPORT aclError aclrtCreateStream(aclrtStream* stream) {
  if (const aclError code = refused("aclrtCreateStream")) return code;
  *stream = Machine::instance().add(std::make_shared<HostStream>());
  return acl_success;
}

DUJIANG_EXPORT aclError aclrtDestroyStream(aclrtStream stream) {
  if (const aclError code = refused("aclrtDestroyStream")) return code;
  return Machine::instance().remove_stream(stream) ? acl_success : acl_invalid_param;
}

DUJIANG_EXPORT aclError aclrtSynchronizeStreamWithTimeout(aclrtStream handle, std::int32_t ms) {
  if (const aclError code = refused("aclrtSynchronizeStreamWithTimeout")) return code;
  const auto stream = Machine::instance().stream(handle);
  if (!stream) return acl_invalid_param;
  std::optional<std::chrono::milliseconds> timeout;
  if (ms >= 0) timeout = std::chrono::milliseconds(ms);
  return stream->synchronize(timeout) ? stream->status() : acl_stream_synchronize_timeout;
}

DUJIANG_EXPORT aclError aclrtSynchronizeStream(aclrtStream handle) {
  return aclrtSynchronizeStreamWithTimeout(handle, -1);
}

DUJIANG_EXPORT aclError aclrtStreamQuery(aclrtStream handle, int* status) {
  if (const aclError code = refused("aclrtStreamQuery")) return code;
  const auto stream = Machine::instance().stream(handle);
  if (!stream) return acl_invalid_param;
  *status = stream->query() ? acl_stream_complete : acl_stream_not_ready;
  return stream->status();
}

DUJIANG_EXPORT aclError aclrtStreamAbort(aclrtStream handle) {
  if (const aclError code = refused("aclrtStreamAbort")) return code;
  const auto stream = Machine::instance().stream(handle);
  if (!stream) return acl_invalid_param;
  stream->abort(acl_task_aborted);
  return acl_success;
}

DUJIANG_EXPORT aclError aclrtCreateEvent(aclrtEvent* event) {
  if (const aclError code = refused("aclrtCreateEvent")) return code;
  *event = Machine::instance().add(std::make_shared<HostEvent>());
  return acl_success;
}

DUJIANG_EXPORT aclError aclrtDestroyEvent(aclrtEvent event) {
  if (const aclError code = refused("aclrtDestroyEvent")) return code;
  return Machine::instance().remove_event(event) ? acl_success : acl_invalid_param;
}

DUJIANG_EXPORT aclError aclrtRecordEvent(aclrtEvent event_handle, aclrtStream handle) {
  if (const aclError code = refused("aclrtRecordEvent")) return code;
  const auto event = Machine::instance().event(event_handle);
  const auto stream = Machine::instance().stream(handle);
  if (!event || !stream) return acl_invalid_param;
  event->record(*stream);
  return acl_success;
}

DUJIANG_EXPORT aclError aclrtStreamWaitEvent(aclrtStream handle, aclrtEvent event_handle) {
  if (const aclError code = refused("aclrtStreamWaitEvent")) return code;
  const auto event = Machine::instance().event(event_handle);
  const auto stream = Machine::instance().stream(handle);
  if (!event || !stream) return acl_invalid_param;
  event->wait_by(*stream);
  return acl_success;
}

DUJIANG_EXPORT aclError aclrtSynchronizeEvent(aclrtEvent handle) {
  if (const aclError code = refused("aclrtSynchronizeEvent")) return code;
  const auto event = Machine::instance().event(handle);
  return event ? event->synchronize() : acl_invalid_param;
}

DUJIANG_EXPORT aclError aclrtQueryEventStatus(aclrtEvent handle, int* status) {
  if (const aclError code = refused("aclrtQueryEventStatus")) return code;
  const auto event = Machine::instance().event(handle);
  if (!event) return acl_invalid_param;
  const bool done = event->query();
  *status = done ? acl_event_complete : acl_event_not_ready;
  return done ? event->status() : acl_success;
}

DUJIANG_EXPORT aclError aclrtMalloc(void** memory, std::size_t bytes, int) {
  if (const aclError code = refused("aclrtMalloc")) return code;
  if (memory == nullptr || bytes == 0) return acl_invalid_param;
  *memory = Machine::instance().memory.allocate(bytes);
  if (*memory != nullptr) return acl_success;
  Machine::instance().say("EL0004: allocation failed, the device has no memory left");
  return acl_no_memory;
}

DUJIANG_EXPORT aclError aclrtFree(void* memory) {
  if (const aclError code = refused("aclrtFree")) return code;
  return Machine::instance().memory.free(memory) ? acl_success : acl_invalid_param;
}

DUJIANG_EXPORT aclError aclrtMemset(void* memory, std::size_t most, std::int32_t value, std::size_t bytes) {
  if (const aclError code = refused("aclrtMemset")) return code;
  if (bytes > most || !in_device_memory(memory, bytes)) return acl_invalid_param;
  std::memset(memory, value, bytes);
  return acl_success;
}

DUJIANG_EXPORT aclError aclrtMemcpy(void* to, std::size_t most, const void* from, std::size_t bytes, int kind) {
  if (const aclError code = refused("aclrtMemcpy")) return code;
  const bool to_device = kind == 1 || kind == 3, from_device = kind == 2 || kind == 3;
  if (bytes > most || (to_device && !in_device_memory(to, bytes)) || (from_device && !in_device_memory(from, bytes))) {
    return acl_invalid_param;
  }
  std::memmove(to, from, bytes);
  return acl_success;
}

DUJIANG_EXPORT aclError aclrtMemcpyAsync(void* to, std::size_t most, const void* from, std::size_t bytes, int kind,
                                         aclrtStream handle) {
  if (const aclError code = refused("aclrtMemcpyAsync")) return code;
  const bool to_device = kind == 1 || kind == 3, from_device = kind == 2 || kind == 3;
  const auto stream = Machine::instance().stream(handle);
  if (!stream || bytes > most || (to_device && !in_device_memory(to, bytes)) ||
      (from_device && !in_device_memory(from, bytes))) {
    return acl_invalid_param;
  }
  stream->submit([=](HostStream&) {
    std::memmove(to, from, bytes);
    return 0;
  });
  return acl_success;
}

}  // namespace dujiang::hccl
