#pragma once
// The facts of the C ABI of Huawei's HCCL (libhccl.so) and of the ACL runtime (libacl_rt.so, libascendcl.so): types,
// codes and signatures, so that the transport needs no vendor header. Internal to the hccl transport and its stand-in.
//
// Checked against the public headers and manuals of CANN: hcomm include/hccl/hccl_types.h (HcclCommConfig and its magic
// word, HcclSendRecvItem, HcclResult, the 4108 bytes of a root info), hcomm include/hccl/hccl_comm.h
// (HcclCreateSubCommConfig), hccl docs/en/api_ref (HcclReduce: data types, operations and alignment; HcclBatchSendRecv:
// return codes, calls on one device must be serialised), Ascend/pytorch (HcclAlltoAllV), acl_rt.h (aclrtStreamAbort:
// stops what runs and drops what is queued; aclInit: once per process). Nothing here was run on an NPU.

#include <cstddef>
#include <cstdint>

namespace dujiang::hccl {

using HcclComm = void*;
using aclrtStream = void*;
using aclrtEvent = void*;
using aclError = int;

enum HcclResult : int {
  HCCL_SUCCESS = 0,
  HCCL_E_PARA = 1,
  HCCL_E_PTR = 2,
  HCCL_E_MEMORY = 3,
  HCCL_E_INTERNAL = 4,
  HCCL_E_NOT_SUPPORT = 5,
  HCCL_E_NOT_FOUND = 6,
  HCCL_E_UNAVAIL = 7,
  HCCL_E_SYSCALL = 8,
  HCCL_E_TIMEOUT = 9,
  HCCL_E_OPEN_FILE_FAILURE = 10,
  HCCL_E_TCP_CONNECT = 11,
  HCCL_E_ROCE_CONNECT = 12,
  HCCL_E_TCP_TRANSFER = 13,
  HCCL_E_ROCE_TRANSFER = 14,
  HCCL_E_RUNTIME = 15,
  HCCL_E_DRV = 16,
  HCCL_E_PROFILING = 17,
  HCCL_E_CCE = 18,
  HCCL_E_NETWORK = 19,
  HCCL_E_AGAIN = 20,
  HCCL_E_REMOTE = 21,
  HCCL_E_SUSPENDING = 22,
  HCCL_E_OPRETRY_FAIL = 23,
  HCCL_E_OOM = 24,
};

enum HcclReduceOp : int { HCCL_REDUCE_SUM = 0, HCCL_REDUCE_PROD = 1, HCCL_REDUCE_MAX = 2, HCCL_REDUCE_MIN = 3 };

enum HcclDataType : int {
  HCCL_DATA_TYPE_INT8 = 0,
  HCCL_DATA_TYPE_INT16 = 1,
  HCCL_DATA_TYPE_INT32 = 2,
  HCCL_DATA_TYPE_FP16 = 3,
  HCCL_DATA_TYPE_FP32 = 4,
  HCCL_DATA_TYPE_INT64 = 5,
  HCCL_DATA_TYPE_UINT64 = 6,
  HCCL_DATA_TYPE_UINT8 = 7,
  HCCL_DATA_TYPE_UINT16 = 8,
  HCCL_DATA_TYPE_UINT32 = 9,
  HCCL_DATA_TYPE_FP64 = 10,
  HCCL_DATA_TYPE_BFP16 = 11,
};

enum HcclSendRecvType : int { HCCL_SEND = 0, HCCL_RECV = 1 };

/// More elements than this in one call are refused with HCCL_E_PARA.
inline constexpr std::uint64_t hccl_max_count = 0x7FFFFFFFF;

struct HcclRootInfo {
  char internal[4108];
};
static_assert(sizeof(HcclRootInfo) == 4108);

struct HcclSendRecvItem {
  HcclSendRecvType sendRecvType;
  void* buf;
  std::uint64_t count;
  HcclDataType dataType;
  std::uint32_t remoteRank;
};
static_assert(sizeof(HcclSendRecvItem) == 32 && offsetof(HcclSendRecvItem, buf) == 8 &&
              offsetof(HcclSendRecvItem, count) == 16 && offsetof(HcclSendRecvItem, dataType) == 24 &&
              offsetof(HcclSendRecvItem, remoteRank) == 28);

/// Version 6; a newer library reads the fields that this one has, by its size and version.
struct HcclCommConfig {
  static constexpr std::uint32_t unset = 0xffffffff;
  std::size_t size = 312;
  std::uint32_t magic = 0xf0f0f0f0;
  std::uint32_t version = 6;
  std::uint64_t reserved = 0;
  std::uint32_t bufferSize = unset;  ///< MB
  std::uint32_t deterministic = unset;
  char commName[128] = {};
  char udi[128] = {};
  std::uint32_t opExpansionMode = 0;
  std::uint32_t trafficClass = unset;
  std::uint32_t serviceLevel = unset;
  std::uint32_t worldRankId = 0;
  std::uint64_t jobId = 0;
};
static_assert(sizeof(HcclCommConfig) == 312 && offsetof(HcclCommConfig, magic) == 8 &&
              offsetof(HcclCommConfig, version) == 12 && offsetof(HcclCommConfig, reserved) == 16 &&
              offsetof(HcclCommConfig, bufferSize) == 24 && offsetof(HcclCommConfig, deterministic) == 28 &&
              offsetof(HcclCommConfig, commName) == 32 && offsetof(HcclCommConfig, udi) == 160 &&
              offsetof(HcclCommConfig, opExpansionMode) == 288 && offsetof(HcclCommConfig, trafficClass) == 292 &&
              offsetof(HcclCommConfig, serviceLevel) == 296 && offsetof(HcclCommConfig, worldRankId) == 300 &&
              offsetof(HcclCommConfig, jobId) == 304);

// aclError
inline constexpr aclError acl_success = 0;
inline constexpr aclError acl_repeated_init = 100002;
inline constexpr aclError acl_stream_synchronize_timeout = 507046;
// aclrtMemMallocPolicy, aclrtMemcpyKind, aclrtStreamStatus, aclrtEventRecordedStatus
inline constexpr int acl_malloc_huge_first = 0;
inline constexpr int acl_copy_device_to_device = 3;
inline constexpr int acl_stream_complete = 0, acl_stream_not_ready = 1;
inline constexpr int acl_event_not_ready = 0, acl_event_complete = 1;

/// Sub-communicators: what a rank passes that isn't a member.
inline constexpr std::uint64_t hccl_no_sub_comm = 0xFFFFFFFF;

// X(name, result, arguments): the functions that the transport calls.
#define DUJIANG_HCCL_FUNCTIONS(X)                                                                                    \
  X(HcclGetRootInfo, HcclResult, (HcclRootInfo*))                                                                    \
  X(HcclCommInitRootInfo, HcclResult, (std::uint32_t, const HcclRootInfo*, std::uint32_t, HcclComm*))                \
  X(HcclCommInitClusterInfo, HcclResult, (const char*, std::uint32_t, HcclComm*))                                    \
  X(HcclCreateSubCommConfig, HcclResult,                                                                             \
    (HcclComm*, std::uint32_t, std::uint32_t*, std::uint64_t, std::uint32_t, HcclCommConfig*, HcclComm*))            \
  X(HcclCommDestroy, HcclResult, (HcclComm))                                                                         \
  X(HcclGetRankSize, HcclResult, (HcclComm, std::uint32_t*))                                                         \
  X(HcclGetRankId, HcclResult, (HcclComm, std::uint32_t*))                                                           \
  X(HcclGetCommAsyncError, HcclResult, (HcclComm, HcclResult*))                                                      \
  X(HcclGetErrorString, const char*, (HcclResult))                                                                   \
  X(HcclAllReduce, HcclResult, (void*, void*, std::uint64_t, HcclDataType, HcclReduceOp, HcclComm, aclrtStream))     \
  X(HcclReduceScatter, HcclResult, (void*, void*, std::uint64_t, HcclDataType, HcclReduceOp, HcclComm, aclrtStream)) \
  X(HcclAllGather, HcclResult, (void*, void*, std::uint64_t, HcclDataType, HcclComm, aclrtStream))                   \
  X(HcclBroadcast, HcclResult, (void*, std::uint64_t, HcclDataType, std::uint32_t, HcclComm, aclrtStream))           \
  X(HcclReduce, HcclResult,                                                                                          \
    (void*, void*, std::uint64_t, HcclDataType, HcclReduceOp, std::uint32_t, HcclComm, aclrtStream))                 \
  X(HcclAlltoAllV, HcclResult,                                                                                       \
    (const void*, const void*, const void*, HcclDataType, const void*, const void*, const void*, HcclDataType,       \
     HcclComm, aclrtStream))                                                                                         \
  X(HcclBatchSendRecv, HcclResult, (HcclSendRecvItem*, std::uint32_t, HcclComm, aclrtStream))                        \
  X(HcclBarrier, HcclResult, (HcclComm, aclrtStream))

#define DUJIANG_ACL_FUNCTIONS(X)                                              \
  X(aclInit, aclError, (const char*))                                         \
  X(aclGetRecentErrMsg, const char*, ())                                      \
  X(aclrtSetDevice, aclError, (std::int32_t))                                 \
  X(aclrtGetDevice, aclError, (std::int32_t*))                                \
  X(aclrtGetDeviceCount, aclError, (std::uint32_t*))                          \
  X(aclrtCreateStream, aclError, (aclrtStream*))                              \
  X(aclrtDestroyStream, aclError, (aclrtStream))                              \
  X(aclrtSynchronizeStreamWithTimeout, aclError, (aclrtStream, std::int32_t)) \
  X(aclrtStreamAbort, aclError, (aclrtStream))                                \
  X(aclrtCreateEvent, aclError, (aclrtEvent*))                                \
  X(aclrtDestroyEvent, aclError, (aclrtEvent))                                \
  X(aclrtRecordEvent, aclError, (aclrtEvent, aclrtStream))                    \
  X(aclrtStreamWaitEvent, aclError, (aclrtStream, aclrtEvent))                \
  X(aclrtQueryEventStatus, aclError, (aclrtEvent, int*))                      \
  X(aclrtMalloc, aclError, (void**, std::size_t, int))                        \
  X(aclrtFree, aclError, (void*))                                             \
  X(aclrtMemset, aclError, (void*, std::size_t, std::int32_t, std::size_t))   \
  X(aclrtMemcpyAsync, aclError, (void*, std::size_t, const void*, std::size_t, int, aclrtStream))

}  // namespace dujiang::hccl
