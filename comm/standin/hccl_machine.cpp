#include "comm/standin/hccl_machine.h"

#include <cstdio>
#include <cstdlib>
#include <thread>
#include <utility>

#include "framework/base/check.h"

namespace dujiang::hccl {
namespace {

thread_local int thread_device = -1;
thread_local std::string recent, shown;

std::int64_t number(const char* name, std::int64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr && *text != '\0' ? std::atoll(text) : otherwise;
}

std::vector<standin::Fault> faults_of_environment() {
  const char* text = std::getenv("DUJIANG_STANDIN_FAULTS");
  try {
    return standin::parse_faults(text != nullptr ? text : "");
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    std::abort();  // a test that injects nothing must not pass
  }
}

}  // namespace

Machine::Machine()
    : devices(static_cast<int>(number("DUJIANG_STANDIN_DEVICES", 8))),
      connect_timeout(number("DUJIANG_STANDIN_CONNECT_MS", number("HCCL_CONNECT_TIMEOUT", 120) * 1000)),
      memory(static_cast<std::size_t>(number("DUJIANG_STANDIN_MEMORY", INT64_MAX))),
      faults(faults_of_environment()) {}

Machine& Machine::instance() {
  // Never destroyed: a hanging operation must not keep a process from ending.
  static Machine& machine = *new Machine;
  return machine;
}

aclError Machine::ready() const {
  const std::lock_guard lock(mutex_);
  if (!initialised_) return acl_uninitialised;
  return thread_device < 0 ? acl_no_context : acl_success;
}

bool Machine::initialise() {
  const std::lock_guard lock(mutex_);
  return !std::exchange(initialised_, true);
}

void Machine::finalise() {
  const std::lock_guard lock(mutex_);
  initialised_ = false;
}

int Machine::device() const {
  return thread_device;
}

void Machine::set_device(int device) {
  thread_device = device;
}

std::shared_ptr<standin::HostStream> Machine::stream(aclrtStream handle) const {
  const std::lock_guard lock(mutex_);
  const auto at = streams_.find(handle);
  return at != streams_.end() ? at->second : nullptr;
}

std::shared_ptr<standin::HostEvent> Machine::event(aclrtEvent handle) const {
  const std::lock_guard lock(mutex_);
  const auto at = events_.find(handle);
  return at != events_.end() ? at->second : nullptr;
}

aclrtStream Machine::add(std::shared_ptr<standin::HostStream> stream) {
  const std::lock_guard lock(mutex_);
  void* handle = stream.get();
  streams_[handle] = std::move(stream);
  return handle;
}

aclrtEvent Machine::add(std::shared_ptr<standin::HostEvent> event) {
  const std::lock_guard lock(mutex_);
  void* handle = event.get();
  events_[handle] = std::move(event);
  return handle;
}

bool Machine::remove_stream(aclrtStream handle) {
  std::shared_ptr<standin::HostStream> last;  // joins its thread outside the lock
  const std::lock_guard lock(mutex_);
  const auto at = streams_.find(handle);
  if (at == streams_.end()) return false;
  last = std::move(at->second);
  streams_.erase(at);
  return true;
}

bool Machine::remove_event(aclrtEvent handle) {
  const std::lock_guard lock(mutex_);
  return events_.erase(handle) == 1;
}

void Machine::say(std::string words) const {
  recent = std::move(words);
}

int injected(const char* function, std::optional<standin::Fault>* other) {
  Machine& machine = Machine::instance();
  const auto fault = machine.faults.next(function);
  if (!fault) return 0;
  using Kind = standin::Fault::Kind;
  if (fault->kind == Kind::block) {
    for (;;) std::this_thread::sleep_for(std::chrono::seconds(1));
  }
  if (fault->kind == Kind::code) {
    machine.say(fmt::format("EI9999: injected into call {} of {}", fault->call, function));
    return fault->value;
  }
  if (other != nullptr) *other = fault;
  return 0;
}

DUJIANG_EXPORT const char* aclGetRecentErrMsg() {
  shown = std::exchange(recent, {});
  return shown.empty() ? nullptr : shown.c_str();
}

}  // namespace dujiang::hccl
