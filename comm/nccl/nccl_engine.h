#pragma once
// NcclEngine: one NCCL communicator and the thread that watches over it. NCCL is run non-blocking, so that no call of a
// caller's hangs: the engine waits for NCCL itself, with an eye on the clock, and aborts the communicator when NCCL
// reports an error or an operation takes longer than the watchdog allows.

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "comm/communicator.h"
#include "comm/store/store.h"

struct ncclComm;
struct CUevent_st;

namespace dujiang::comm {

class NcclEngine;

/// An operation under way on a CUDA stream.
class NcclOperation final : public Work::State {
 public:
  NcclOperation(std::shared_ptr<NcclEngine> engine, const Request& request);
  ~NcclOperation() override;
  void wait(Stream& stream) override;
  void wait_host() override;
  bool query() override;

 private:
  friend class NcclEngine;
  const std::shared_ptr<NcclEngine> engine_;
  const std::uint64_t id_;
  const Signature signature_;
  const std::source_location where_;
  const Flight::Clock::time_point requested_ = Flight::Clock::now();
  CUevent_st* event_ = nullptr;
  // Guarded by the engine's mutex.
  bool recorded_ = false, done_ = false;
  std::string why_;  ///< it failed
};

class NcclEngine : public std::enable_shared_from_this<NcclEngine> {
 public:
  NcclEngine(int device, std::shared_ptr<Flight> flight) : device_(device), flight_(std::move(flight)) {}

  /// Joins the communicator whose unique id is `id`, as the flight's rank. Throws Error for what NCCL reports, and
  /// UserError when the others don't come before the deadline. `elsewhere`, asked now and then, says why another rank
  /// has given up, or nothing.
  void connect(const std::string& id, Deadline deadline, const std::function<std::string()>& elsewhere);
  /// Collective. The communicator of the ranks with this colour; null for a negative one.
  std::shared_ptr<NcclEngine> split(int color, int key, std::shared_ptr<Flight> child, Deadline deadline);

  /// Calls `launch`, which returns an ncclResult_t, and notes the event that ends the operation on the stream.
  Work start(const Request& request, Stream& stream, const std::function<int(ncclComm*)>& launch);
  /// Waits for everything started. Throws if any of it failed.
  void drain();
  /// Zeroed memory of the device, registered with the communicator.
  std::shared_ptr<void> allocate(std::size_t bytes);

  /// The body of the watching thread: returns once the communicator is closed and gone.
  void watch();
  /// Ends watch(): when everything started has run, or at once, failing what is under way.
  void close(bool abandon);

 private:
  friend class NcclOperation;
  using Lock = std::unique_lock<std::mutex>;
  enum class Closing : std::uint8_t { no, orderly, abandon };

  std::string who() const;
  std::string naming(const NcclOperation& operation) const;
  void fail_all(const std::string& why);
  void throw_failure() const;
  void throw_aborted(Lock& lock);
  void complete(NcclOperation& operation);
  bool finished(NcclOperation& operation);
  bool poll();
  void poll_front();
  int settle(Lock& lock, int result);
  int settle_before(ncclComm* const& comm, int result, Deadline deadline,
                    const std::function<bool()>& given_up = nullptr);
  void release(void* memory);
  void finalize();
  void end(int (*call)(ncclComm*));

  const int device_;
  const std::shared_ptr<Flight> flight_;
  std::mutex launching_;  ///< one launch at a time; taken before mutex_
  std::mutex mutex_;      ///< every call to NCCL on comm_ but the last, and all below
  std::condition_variable changed_;
  ncclComm* comm_ = nullptr;
  std::shared_ptr<NcclEngine> child_;  ///< being split off: NCCL writes to its comm_
  std::deque<std::shared_ptr<NcclOperation>> pending_;
  std::set<std::pair<void*, void*>> registered_;  ///< memory, NCCL's handle
  Closing closing_ = Closing::no;
  bool ending_ = false;  ///< the last call on the communicator is under way
  bool stuck_ = false;   ///< it did not return: the GPU may be busy for ever
  std::string why_;      ///< the failure that poisoned the communicator
};

}  // namespace dujiang::comm
