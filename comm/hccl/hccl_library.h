#pragma once
// HCCL and the ACL runtime, loaded at run time. Internal to the hccl transport.

#include <memory>
#include <mutex>
#include <string>

#include "comm/hccl/hccl_abi.h"

namespace dujiang::hccl {

/// The functions, as members of their C names.
struct Library {
#define DUJIANG_MEMBER(name, result, arguments) result(*name) arguments = nullptr;
  DUJIANG_HCCL_FUNCTIONS(DUJIANG_MEMBER)
  DUJIANG_ACL_FUNCTIONS(DUJIANG_MEMBER)
#undef DUJIANG_MEMBER

  /// HCCL wants the calls of all communicators on a device one after the other.
  mutable std::mutex calls;

  /// Makes `device` the calling thread's. Throws Error.
  void use_device(int device) const;
  /// Throws Error when `error` isn't 0: "rank 1: aclrtMalloc failed with ...".
  void check_acl(aclError error, const std::string& what) const;
  /// The runtime's own last words on this thread, as " (...)", or empty.
  std::string last_words() const;
};

/// Loads libhccl.so (or what DUJIANG_HCCL_LIBRARY names) and libacl_rt.so, else libascendcl.so (or what
/// DUJIANG_ACL_LIBRARY names). They stay loaded. Throws UserError that says what was tried and where.
std::shared_ptr<const Library> load_library();

/// What a result means, what usually causes it and what to do: one sentence that begins with the code's name.
std::string describe(HcclResult result);

}  // namespace dujiang::hccl
