#pragma once

namespace dujiang::launch {

/// The text of configs/devices.yaml.
extern const char* const devices_yaml;

}  // namespace dujiang::launch
