#pragma once
// What devices can do, from a file that names its sources (configs/devices.yaml).

#include <string>

#include "comm/host/rehearsal_communicator.h"
#include "framework/base/rehearsal.h"

namespace dujiang::train {

struct DeviceFigures {
  std::string key, name;
  double memory = 0;     ///< bytes that tensors of one device may take
  double peak_half = 0;  ///< FLOP/s, of which Pace holds the share that is reached
  double peak_single = 0;
  Pace pace;
  comm::Links links;
  bool host = false;  ///< the kernels of this machine's processors: their temporary memory is known
};

/// What a machine's own processors reach, for the device "cpu".
struct HostFigures {
  double half_flops = 0, single_flops = 0;  ///< of products, per rank
  double bytes = 0;                         ///< byte/s of a copy, read and written, per rank
  double memory = 0;                        ///< bytes of the machine
  int ranks = 1;                            ///< that run on one machine
};

/// The device `key` of the YAML text `text`, which comes from `origin`. UserError naming the known devices, or the
/// field at fault. `host` is used for "cpu" alone.
DeviceFigures read_device(const std::string& text, const std::string& origin, const std::string& key,
                          const HostFigures& host);

}  // namespace dujiang::train
