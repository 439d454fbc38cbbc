#pragma once
// Where memory lies and where work is queued.

#include <cstdint>
#include <string>

namespace dujiang {

enum class DeviceType : std::uint8_t { cpu, cuda, npu };
inline constexpr int device_type_count = 3;

const char* name_of(DeviceType type);

struct Device {
  DeviceType type = DeviceType::cpu;
  int index = 0;
  bool operator==(const Device&) const = default;
  /// "cpu:0"
  std::string str() const;
};

/// A queue of work on one device. CPU work runs inline on the calling thread (and its OpenMP team), so a CPU
/// stream has no handle and is always synchronised.
class Stream {
 public:
  explicit Stream(Device device, void* handle = nullptr) : device_(device), handle_(handle) {}
  Device device() const { return device_; }
  /// The vendor's stream (cudaStream_t, aclrtStream); null on the CPU.
  void* handle() const { return handle_; }

 private:
  Device device_;
  void* handle_;
};

}  // namespace dujiang
