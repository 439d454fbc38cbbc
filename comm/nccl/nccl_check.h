#pragma once
// The error codes of NCCL and the CUDA runtime as sentences. Codes are ints here: vendor headers stay in sources.

#include <string>

#include "framework/base/check.h"

struct ncclComm;

namespace dujiang::comm {

/// "NCCL error 6 (...): what NCCL said last; what to look at"
std::string nccl_sentence(int result, ncclComm* comm = nullptr);
/// "CUDA error 2 (out of memory)"
std::string cuda_sentence(int error);

/// Throws Error for anything but success: "WHAT: CUDA error ...".
inline void check_cuda(int error, const char* what) {
  if (error != 0) fail("{}: {}", what, cuda_sentence(error));
}

/// Makes a device the calling thread's, until the end of the scope.
class CudaDeviceScope {
 public:
  explicit CudaDeviceScope(int device);
  ~CudaDeviceScope();
  CudaDeviceScope(const CudaDeviceScope&) = delete;
  CudaDeviceScope& operator=(const CudaDeviceScope&) = delete;

 private:
  int before_ = 0;
};

}  // namespace dujiang::comm
