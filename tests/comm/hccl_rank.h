#pragma once
// What the programs that run the hccl transport over its stand-in share.

#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>

#include "comm/bootstrap.h"
#include "comm/hccl/hccl_library.h"
#include "conformance.h"
#include "framework/base/check.h"

namespace dujiang::comm {

/// An aclrtStream of a communicator's device.
class AclStream {
 public:
  explicit AclStream(const Communicator& c) : library_(hccl::load_library()), stream_(make(*library_, c.device())) {}
  ~AclStream() {
    library_->aclrtStreamAbort(stream_.handle());
    library_->aclrtDestroyStream(stream_.handle());
  }
  AclStream(const AclStream&) = delete;
  AclStream& operator=(const AclStream&) = delete;
  operator Stream&() { return stream_; }

 private:
  static Stream make(const hccl::Library& library, Device device) {
    library.use_device(device.index);
    void* handle = nullptr;
    library.check_acl(library.aclrtCreateStream(&handle), "aclrtCreateStream");
    return Stream(device, handle);
  }
  std::shared_ptr<const hccl::Library> library_;
  Stream stream_;
};

/// The stand-in's device memory is the host's, so the suite can look into it.
inline Setting setting_of(Communicator& c, AclStream& stream) {
  return {stream, [&c](std::size_t bytes) { return c.allocate(bytes); }};
}

/// The job's communicator; the environment variable HCCL_RANK_TIMEOUT_MS is comm.timeout.
inline std::unique_ptr<Communicator> make_hccl_world() {
  const char* timeout = std::getenv("HCCL_RANK_TIMEOUT_MS");
  const char* bootstrap = std::getenv("HCCL_RANK_BOOTSTRAP_MS");
  Options options;
  options.transport = "hccl";
  options.device = DeviceType::npu;
  options.timeout = std::chrono::milliseconds(timeout != nullptr ? std::atoi(timeout) : 60'000);
  options.bootstrap_timeout = std::chrono::milliseconds(bootstrap != nullptr ? std::atoi(bootstrap) : 60'000);
  if (std::getenv("HCCL_RANK_NO_CHECK") != nullptr) options.check = AgreementCheck::off;
  return make_communicator(options);
}

}  // namespace dujiang::comm
