#pragma once
// What the stand-ins of the CUDA runtime and of NCCL share: see cuda_standin.cpp and nccl_standin.cpp for what they do,
// and how they are told to fail.

#include <cuda_runtime_api.h>

#include <optional>
#include <string>
#include <string_view>

#include "comm/standin/device_runtime.h"

// What a cudaStream_t points to.
struct CUstream_st {
  explicit CUstream_st(int device) : device(device) {}
  const int device;
  dujiang::standin::HostStream stream;
};

namespace dujiang::standin {

/// What a call is told to do instead of its work.
struct CudaFault {
  enum class Kind : std::uint8_t { fail, async, hang, kill };
  Kind kind = Kind::fail;
  int code = 0;  ///< of fail and async
};

/// The fault of this call of `function`, if any. Counts the calls; a `kill` doesn't return.
std::optional<CudaFault> cuda_fault(std::string_view function);

/// The calling thread's device.
int cuda_device();
/// The stream itself, or the default stream of the calling thread's device for null.
CUstream_st& cuda_stream(cudaStream_t stream);
/// All memory of all devices of this process.
DeviceMemory& cuda_memory();

}  // namespace dujiang::standin
