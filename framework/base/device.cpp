#include "framework/base/device.h"

#include <fmt/format.h>

namespace dujiang {

const char* name_of(DeviceType type) {
  switch (type) {
    case DeviceType::cpu:
      return "cpu";
    case DeviceType::cuda:
      return "cuda";
    case DeviceType::npu:
      return "npu";
  }
  return "unknown";
}

std::string Device::str() const {
  return fmt::format("{}:{}", name_of(type), index);
}

}  // namespace dujiang
