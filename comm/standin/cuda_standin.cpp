// The CUDA runtime's functions that the nccl transport and its tests call, on host memory: linked in place of libcudart
// in tests.
//
// Streams are threads (device_runtime.h), so that work on them is asynchronous as on a GPU; events belong to a device
// and may be recorded on its streams only. Environment variables of the process:
//   CUDA_VISIBLE_DEVICES      "2,0": the GPUs it sees, as with the real one; eight when unset, none when empty
//   DUJIANG_STANDIN_MEMORY    bytes of memory of all its GPUs together; unlimited when unset
//   DUJIANG_STANDIN_FAULT     faults, separated by commas: FUNCTION[#N][@RANK]=fail:CODE|async:CODE|hang|kill
//     At the N-th call (1 when left out) of a function of CUDA or NCCL, on the rank whose RANK is given or on all:
//     fail   the call returns CODE and does nothing
//     async  NCCL: the call succeeds, its operation never completes, and ncclCommGetAsyncError reports CODE
//     hang   NCCL: the call succeeds, its operation (initialisation, split, abort) never completes
//     kill   the process ends as by SIGKILL

#include "comm/standin/cuda_standin.h"

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <sstream>
#include <vector>

struct CUevent_st {
  explicit CUevent_st(int device) : device(device) {}
  const int device;
  dujiang::standin::HostEvent event;
};

namespace dujiang::standin {
namespace {

thread_local int current_device = 0;

std::vector<int> visible_devices() {
  const char* text = std::getenv("CUDA_VISIBLE_DEVICES");
  if (text == nullptr) return {0, 1, 2, 3, 4, 5, 6, 7};
  std::vector<int> devices;
  std::istringstream in(text);
  for (std::string number; std::getline(in, number, ',');) devices.push_back(std::atoi(number.c_str()));
  return devices;
}

struct PlannedFault {
  std::string function;
  int call = 1;
  CudaFault fault;
};

// An unreadable plan ends the process: a test that injects nothing would pass for the wrong reason.
[[noreturn]] void refuse(const std::string& plan) {
  std::fprintf(stderr, "DUJIANG_STANDIN_FAULT: can't read \"%s\"\n", plan.c_str());
  std::_Exit(99);
}

std::vector<PlannedFault> planned_faults() {
  std::vector<PlannedFault> faults;
  const char* text = std::getenv("DUJIANG_STANDIN_FAULT");
  const char* rank = std::getenv("RANK");
  std::istringstream in(text != nullptr ? text : "");
  for (std::string plan; std::getline(in, plan, ',');) {
    const auto equals = plan.find('=');
    if (equals == std::string::npos) refuse(plan);
    std::string where = plan.substr(0, equals), what = plan.substr(equals + 1);
    PlannedFault planned;
    if (const auto at = where.find('@'); at != std::string::npos) {
      if (rank == nullptr || where.substr(at + 1) != rank) continue;
      where.resize(at);
    }
    if (const auto number = where.find('#'); number != std::string::npos) {
      planned.call = std::atoi(where.c_str() + number + 1);
      where.resize(number);
    }
    planned.function = where;
    if (const auto colon = what.find(':'); colon != std::string::npos) {
      planned.fault.code = std::atoi(what.c_str() + colon + 1);
      what.resize(colon);
    }
    if (what == "fail" && planned.fault.code != 0) {
      planned.fault.kind = CudaFault::Kind::fail;
    } else if (what == "async" && planned.fault.code != 0) {
      planned.fault.kind = CudaFault::Kind::async;
    } else if (what == "hang") {
      planned.fault.kind = CudaFault::Kind::hang;
    } else if (what == "kill") {
      planned.fault.kind = CudaFault::Kind::kill;
    } else {
      refuse(plan);
    }
    faults.push_back(planned);
  }
  return faults;
}

// What a call of the CUDA runtime returns before it does anything.
cudaError_t refusal(const char* function) {
  const auto fault = cuda_fault(function);
  return fault ? static_cast<cudaError_t>(fault->code) : cudaSuccess;
}

}  // namespace

std::optional<CudaFault> cuda_fault(std::string_view function) {
  static const std::vector<PlannedFault> faults = planned_faults();
  static std::mutex mutex;
  static std::map<std::string, int, std::less<>> calls;
  if (faults.empty()) return std::nullopt;
  const std::lock_guard lock(mutex);
  const int call = ++calls[std::string(function)];
  for (const PlannedFault& planned : faults) {
    if (planned.function != function || planned.call != call) continue;
    if (planned.fault.kind == CudaFault::Kind::kill) ::kill(::getpid(), SIGKILL);
    return planned.fault;
  }
  return std::nullopt;
}

int cuda_device() {
  return current_device;
}

CUstream_st& cuda_stream(cudaStream_t stream) {
  if (stream != nullptr) return *stream;
  static std::mutex mutex;
  static std::map<int, std::unique_ptr<CUstream_st>> defaults;
  const std::lock_guard lock(mutex);
  auto& own = defaults[current_device];
  if (!own) own = std::make_unique<CUstream_st>(current_device);
  return *own;
}

DeviceMemory& cuda_memory() {
  const char* limit = std::getenv("DUJIANG_STANDIN_MEMORY");
  static DeviceMemory memory(limit != nullptr ? std::strtoull(limit, nullptr, 10) : SIZE_MAX);
  return memory;
}

}  // namespace dujiang::standin

using namespace dujiang::standin;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  if (const auto error = refusal(__func__)) return error;
  *count = static_cast<int>(visible_devices().size());
  return *count > 0 ? cudaSuccess : cudaErrorNoDevice;
}

cudaError_t cudaGetDevice(int* device) {
  if (const auto error = refusal(__func__)) return error;
  *device = current_device;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (const auto error = refusal(__func__)) return error;
  if (device < 0 || device >= static_cast<int>(visible_devices().size())) return cudaErrorInvalidDevice;
  current_device = device;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int device) {
  if (const auto error = refusal(__func__)) return error;
  const auto devices = visible_devices();
  if (device < 0 || device >= static_cast<int>(devices.size())) return cudaErrorInvalidDevice;
  std::snprintf(text, static_cast<std::size_t>(length), "0000:%02X:00.0",
                static_cast<unsigned>(devices[static_cast<std::size_t>(device)] + 1) & 0xffu);
  return cudaSuccess;
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorIllegalAddress:
      return "an illegal memory access was encountered";
    default:
      return "an error of the stand-in";
  }
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int) {
  if (const auto error = refusal(__func__)) return error;
  *event = new CUevent_st(current_device);
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return refusal(__func__);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (const auto error = refusal(__func__)) return error;
  CUstream_st& on = cuda_stream(stream);
  if (event->device != on.device) return cudaErrorInvalidResourceHandle;
  event->event.record(on.stream);
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (const auto error = refusal(__func__)) return error;
  if (!event->event.query()) return cudaErrorNotReady;
  return static_cast<cudaError_t>(event->event.status());
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int) {
  if (const auto error = refusal(__func__)) return error;
  event->event.wait_by(cuda_stream(stream).stream);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int) {
  if (const auto error = refusal(__func__)) return error;
  *stream = new CUstream_st(current_device);
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return refusal(__func__);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (const auto error = refusal(__func__)) return error;
  HostStream& host = cuda_stream(stream).stream;
  host.synchronize();
  return static_cast<cudaError_t>(host.status());
}

cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t stream) {
  if (const auto error = refusal(__func__)) return error;
  if (!cuda_memory().contains(memory, bytes)) return cudaErrorInvalidValue;
  cuda_stream(stream).stream.submit([=](HostStream&) {
    std::memset(memory, value, bytes);
    return 0;
  });
  return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  if (const auto error = refusal(__func__)) return error;
  cuda_stream(stream).stream.submit([=](HostStream&) {
    function(data);
    return 0;
  });
  return cudaSuccess;
}

// The tests reach the memory of the stand-in's devices as the host's, and pinned host memory is the same to them.
cudaError_t cudaMallocHost(void** memory, std::size_t bytes) {
  if (const auto error = refusal(__func__)) return error;
  *memory = cuda_memory().allocate(bytes);
  return *memory != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFreeHost(void* memory) {
  if (const auto error = refusal(__func__)) return error;
  return memory == nullptr || cuda_memory().free(memory) ? cudaSuccess : cudaErrorInvalidValue;
}

}  // extern "C"
