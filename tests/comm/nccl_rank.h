#pragma once
// What the programs that run the nccl transport share: started by run_ranks.sh, one process for each rank.

#include <cuda_runtime_api.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>

#include "comm/nccl/nccl_communicator.h"
#include "comm/store/store.h"
#include "comm/watch/watchdog.h"
#include "framework/base/check.h"

namespace dujiang::comm {

inline std::string variable(const char* name, const char* otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? text : otherwise;
}

/// This process' place in the job, and how the ranks meet.
struct NcclRank {
  int rank = std::stoi(variable("RANK", "0"));
  int size = std::stoi(variable("WORLD_SIZE", "1"));
  int device = std::stoi(variable("LOCAL_RANK", "0"));

  /// A watchdog that leaves ending the process to the transport when `silent`.
  std::shared_ptr<Watchdog> watchdog(std::chrono::milliseconds timeout, bool silent = false) const {
    using namespace std::chrono_literals;
    StoreAddress address{{variable("MASTER_ADDR", "127.0.0.1")},
                         std::stoi(variable("MASTER_PORT", "0")),
                         variable("DUJIANG_JOB_TOKEN", "alone")};
    const auto store = rank == 0 ? serve_tcp_store(address, size)
                                 : connect_tcp_store(address, rank, size, std::chrono::steady_clock::now() + 60s);
    Watchdog::Options options{.timeout = timeout};
    if (silent) options.end_process = [](const std::string&) {};
    return std::make_shared<Watchdog>(store, rank, size, options);
  }
};

/// A CUDA stream of the communicator's device.
class CudaStream {
 public:
  explicit CudaStream(Device device) : stream_(make(device)) {}
  ~CudaStream() { (void)cudaStreamDestroy(static_cast<cudaStream_t>(stream_.handle())); }
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;
  operator Stream&() { return stream_; }

 private:
  static Stream make(Device device) {
    cudaStream_t handle = nullptr;
    DUJIANG_CHECK(cudaSetDevice(device.index) == cudaSuccess &&
                      cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking) == cudaSuccess,
                  "no stream on {}", device.str());
    return Stream(device, handle);
  }
  Stream stream_;
};

/// Memory that both the host and a GPU reach.
inline std::shared_ptr<void> pinned_memory(std::size_t bytes) {
  void* memory = nullptr;
  DUJIANG_CHECK(cudaMallocHost(&memory, bytes) == cudaSuccess, "no pinned memory of {} bytes", bytes);
  return {memory, [](void* p) { (void)cudaFreeHost(p); }};
}

}  // namespace dujiang::comm
