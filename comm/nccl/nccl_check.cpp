#include "comm/nccl/nccl_check.h"

#include <cuda_runtime_api.h>
#include <nccl.h>

namespace dujiang::comm {
namespace {

// What people who met the error had to look at.
const char* advice(ncclResult_t result) {
  switch (result) {
    case ncclUnhandledCudaError:
      return "a CUDA call inside NCCL failed: memory of the GPU may be short, or its driver too old for this NCCL";
    case ncclSystemError:
      return "a system call failed: look at the network interface (NCCL_SOCKET_IFNAME) and at the size of /dev/shm";
    case ncclInternalError:
      return "NCCL_DEBUG=INFO shows what it was doing";
    case ncclInvalidArgument:
    case ncclInvalidUsage:
      return "NCCL_DEBUG=WARN names the argument; two ranks on one GPU are refused too";
    case ncclRemoteError:
      return "another rank's process ended or the network to it broke: look at the first message of the other ranks";
    default:
      return "NCCL_DEBUG=WARN says more";
  }
}

}  // namespace

std::string nccl_sentence(int result, ncclComm* comm) {
  const auto code = static_cast<ncclResult_t>(result);
  const char* last = ncclGetLastError(comm);
  return fmt::format("NCCL error {} ({}){}{}; {}", result, ncclGetErrorString(code),
                     last != nullptr && *last != '\0' ? ": " : "", last != nullptr ? last : "", advice(code));
}

std::string cuda_sentence(int error) {
  return fmt::format("CUDA error {} ({})", error, cudaGetErrorString(static_cast<cudaError_t>(error)));
}

CudaDeviceScope::CudaDeviceScope(int device) {
  check_cuda(cudaGetDevice(&before_), "reading the current GPU");
  check_cuda(cudaSetDevice(device), "choosing the GPU");
}

CudaDeviceScope::~CudaDeviceScope() {
  (void)cudaSetDevice(before_);
}

}  // namespace dujiang::comm
