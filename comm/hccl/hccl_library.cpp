#include "comm/hccl/hccl_library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <vector>

#include "framework/base/check.h"

namespace dujiang::hccl {
namespace {

constexpr const char* advice =
    "install CANN and source its set_env.sh (it sets LD_LIBRARY_PATH), or set {} to the library's path, or choose "
    "another "
    "comm.transport";

// Opens the first of the candidates that can be, or fails with what became of each.
void* open_first(const char* variable, std::vector<std::string> candidates) {
  const char* path = std::getenv(variable);
  if (path != nullptr && *path != '\0') candidates = {path};
  std::string tried;
  for (const std::string& name : candidates) {
    // Stays loaded: its threads and its state outlive any communicator.
    if (void* handle = ::dlopen(name.c_str(), RTLD_NOW | RTLD_GLOBAL | RTLD_NODELETE)) return handle;
    const char* why = ::dlerror();
    tried += fmt::format("{}{}: {}", tried.empty() ? "" : "; ", name, why != nullptr ? why : "unknown error");
  }
  const char* folders = std::getenv("LD_LIBRARY_PATH");
  fail_user("can't load the library of hccl: tried {} (LD_LIBRARY_PATH is \"{}\"): {}", tried,
            folders != nullptr ? folders : "", fmt::format(fmt::runtime(advice), variable));
}

template <class Function>
void resolve(void* handle, const char* name, const char* variable, Function*& function) {
  function = reinterpret_cast<Function*>(::dlsym(handle, name));
  if (function != nullptr) return;
  const char* path = std::getenv(variable);
  fail_user("{} has no function {}: it is older than CANN 8, or another library; {}",
            path != nullptr && *path != '\0' ? path : "the library found", name,
            fmt::format(fmt::runtime(advice), variable));
}

}  // namespace

std::shared_ptr<const Library> load_library() {
  constexpr const char *hccl_variable = "DUJIANG_HCCL_LIBRARY", *acl_variable = "DUJIANG_ACL_LIBRARY";
  void* acl = open_first(acl_variable, {"libacl_rt.so", "libascendcl.so"});
  void* hccl = open_first(hccl_variable, {"libhccl.so"});
  auto library = std::make_shared<Library>();
#define DUJIANG_RESOLVE(name, result, arguments) resolve(hccl, #name, hccl_variable, library->name);
  DUJIANG_HCCL_FUNCTIONS(DUJIANG_RESOLVE)
#undef DUJIANG_RESOLVE
#define DUJIANG_RESOLVE(name, result, arguments) resolve(acl, #name, acl_variable, library->name);
  DUJIANG_ACL_FUNCTIONS(DUJIANG_RESOLVE)
#undef DUJIANG_RESOLVE
  return library;
}

void Library::use_device(int device) const {
  std::int32_t now = -1;
  if (aclrtGetDevice(&now) == acl_success && now == device) return;
  check_acl(aclrtSetDevice(device), fmt::format("aclrtSetDevice({})", device));
}

std::string Library::last_words() const {
  const char* words = aclGetRecentErrMsg();
  return words != nullptr && *words != '\0' ? fmt::format(" (the runtime says: {})", words) : "";
}

void Library::check_acl(aclError error, const std::string& what) const {
  if (error == acl_success) return;
  const char* meaning = error == 107002   ? ": this thread has no device"
                        : error == 207001 ? ": the device has not enough free memory"
                        : error == 107001 ? ": there is no such device"
                        : error == 507899 ? ": the driver failed"
                                          : "";
  fail("{} failed with ACL error {}{}{}", what, error, meaning, last_words());
}

std::string describe(HcclResult result) {
  switch (result) {
    case HCCL_SUCCESS:
      return "HCCL_SUCCESS (0): no error";
    case HCCL_E_PARA:
      return "HCCL_E_PARA (1): an argument is out of range, or the ranks' arguments differ";
    case HCCL_E_PTR:
      return "HCCL_E_PTR (2): a pointer is null: buffer, communicator or stream";
    case HCCL_E_MEMORY:
      return "HCCL_E_MEMORY (3): memory could not be had or is invalid: every communicator takes twice HCCL_BUFFSIZE "
             "MB "
             "(200 by default) of device memory; lower it, or use fewer communicators";
    case HCCL_E_INTERNAL:
      return "HCCL_E_INTERNAL (4): HCCL failed inside; its log is in ~/ascend/log";
    case HCCL_E_NOT_SUPPORT:
      return "HCCL_E_NOT_SUPPORT (5): this device or version doesn't support the operation, data type or reduction";
    case HCCL_E_NOT_FOUND:
      return "HCCL_E_NOT_FOUND (6): something HCCL looked for isn't there: a device, a network interface, a rank of "
             "the "
             "rank table";
    case HCCL_E_UNAVAIL:
      return "HCCL_E_UNAVAIL (7): a resource is used up: a port of HCCL_IF_BASE_PORT, a stream or a notify";
    case HCCL_E_SYSCALL:
      return "HCCL_E_SYSCALL (8): a system call failed: often a port that another process holds, or a limit of open "
             "files";
    case HCCL_E_TIMEOUT:
      return "HCCL_E_TIMEOUT (9): another rank did not come in time: look for the first rank that failed, for a rank "
             "that "
             "never made this call, or for a port of HCCL_IF_BASE_PORT held by another process";
    case HCCL_E_OPEN_FILE_FAILURE:
      return "HCCL_E_OPEN_FILE_FAILURE (10): a file can't be opened: the rank table, or a library of CANN";
    case HCCL_E_TCP_CONNECT:
      return "HCCL_E_TCP_CONNECT (11): no TCP connection between two hosts: usually the wrong network interface (set "
             "HCCL_SOCKET_IFNAME or HCCL_IF_IP), or a firewall";
    case HCCL_E_ROCE_CONNECT:
      return "HCCL_E_ROCE_CONNECT (12): no RDMA connection between two devices: check their addresses and links with "
             "hccn_tool";
    case HCCL_E_TCP_TRANSFER:
      return "HCCL_E_TCP_TRANSFER (13): a TCP connection broke: a rank's process ended, or the network failed";
    case HCCL_E_ROCE_TRANSFER:
      return "HCCL_E_ROCE_TRANSFER (14): an RDMA connection broke: a rank's process ended, or the network failed";
    case HCCL_E_RUNTIME:
      return "HCCL_E_RUNTIME (15): a call of the ACL runtime failed: often a device that is busy or was reset";
    case HCCL_E_DRV:
      return "HCCL_E_DRV (16): a call of the driver failed: check the devices with npu-smi info";
    case HCCL_E_PROFILING:
      return "HCCL_E_PROFILING (17): profiling failed";
    case HCCL_E_CCE:
      return "HCCL_E_CCE (18): a call of the compute engine failed";
    case HCCL_E_NETWORK:
      return "HCCL_E_NETWORK (19): the network failed: check the links with hccn_tool";
    case HCCL_E_AGAIN:
      return "HCCL_E_AGAIN (20): the communicator is busy: operations are still under way";
    case HCCL_E_REMOTE:
      return "HCCL_E_REMOTE (21): another rank's device failed: look for the first rank that failed";
    case HCCL_E_SUSPENDING:
      return "HCCL_E_SUSPENDING (22): the communicator is being suspended";
    case HCCL_E_OPRETRY_FAIL:
      return "HCCL_E_OPRETRY_FAIL (23): an operation failed, and repeating it failed too: the network is unreliable";
    case HCCL_E_OOM:
      return "HCCL_E_OOM (24): the device has not enough free memory: every communicator takes twice HCCL_BUFFSIZE MB "
             "(200 by default); lower it, or use fewer communicators";
  }
  return fmt::format("HCCL's code {}, which this program doesn't know", static_cast<int>(result));
}

}  // namespace dujiang::hccl
