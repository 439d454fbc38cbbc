#include "comm/nccl/nccl_engine.h"

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <algorithm>
#include <future>
#include <thread>

#include "comm/nccl/nccl_check.h"
#include "comm/watch/watchdog.h"

#if NCCL_VERSION_CODE < NCCL_VERSION(2, 19, 0)
#error "the nccl transport needs NCCL 2.19: ncclCommRegister, ncclCommSplit, non-blocking communicators"
#endif

namespace dujiang::comm {
namespace {

using namespace std::chrono_literals;

// The watchdog speaks first: it knows which rank is missing. Aborting is for what remains when it doesn't end the job.
constexpr auto grace = 1s;
// How long NCCL may take to abort or destroy: it frees memory that other ranks may hold on to (NVIDIA/nccl#863).
constexpr auto ending = 3s;

int abort(ncclComm* comm) {
  return ncclCommAbort(comm);
}
int destroy(ncclComm* comm) {
  return ncclCommDestroy(comm);
}

// Sleeps a little longer each time, so that short waits are short and long ones burn nothing.
class Pause {
 public:
  explicit Pause(std::chrono::microseconds longest) : longest_(longest) {}
  std::chrono::microseconds next() {
    const auto now = next_;
    next_ = std::min(longest_, next_ * 3 / 2);
    return now;
  }

 private:
  std::chrono::microseconds next_ = 20us, longest_;
};

}  // namespace

NcclOperation::NcclOperation(std::shared_ptr<NcclEngine> engine, const Request& request)
    : engine_(std::move(engine)), id_(request.id), signature_(request.signature()), where_(request.where) {
  check_cuda(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "creating an event");
}

NcclOperation::~NcclOperation() {
  (void)cudaEventDestroy(event_);
}

void NcclOperation::wait(Stream& stream) {
  const std::lock_guard lock(engine_->mutex_);
  if (!why_.empty()) throw Error(why_);
  if (done_) return;
  DUJIANG_CHECK(stream.device() == Device({DeviceType::cuda, engine_->device_}), "{}: waited for on a stream of {}",
                engine_->naming(*this), stream.device().str());
  const CudaDeviceScope scope(engine_->device_);
  check_cuda(cudaStreamWaitEvent(static_cast<cudaStream_t>(stream.handle()), event_, 0), "waiting on a stream");
}

void NcclOperation::wait_host() {
  Pause pause(500us);
  while (!query()) std::this_thread::sleep_for(pause.next());
  std::unique_lock lock(engine_->mutex_);
  if (!why_.empty()) engine_->throw_aborted(lock);
}

bool NcclOperation::query() {
  const std::lock_guard lock(engine_->mutex_);
  return !why_.empty() || engine_->finished(*this);
}

std::string NcclEngine::who() const {
  return fmt::format("nccl, rank {} of {}, communicator {}", flight_->rank(), flight_->members().size(),
                     flight_->name());
}

std::string NcclEngine::naming(const NcclOperation& operation) const {
  return fmt::format("{} ({}, called at {}:{})", operation.signature_.str(), who(), operation.where_.file_name(),
                     operation.where_.line());
}

// Everything under way fails for the same reason; the watching thread aborts the communicator next.
void NcclEngine::fail_all(const std::string& why) {
  if (!why_.empty()) return;
  why_ = why;
  flight_->poison(why);
  for (const auto& operation : pending_) {
    operation->why_ = why;
    flight_->fail(operation->id_, why);
  }
  pending_.clear();
  changed_.notify_all();
}

void NcclEngine::throw_failure() const {
  if (!why_.empty()) throw Error(why_);
}

// The same for who has given buffers to an operation: they are the caller's again once nothing on the GPU can touch
// them.
void NcclEngine::throw_aborted(Lock& lock) {
  if (why_.empty()) return;
  changed_.wait(lock, [this] { return comm_ == nullptr && !ending_; });
  throw Error(why_);
}

void NcclEngine::complete(NcclOperation& operation) {
  operation.done_ = true;
  flight_->finish(operation.id_);
  std::erase_if(pending_, [&](const auto& pending) { return pending.get() == &operation; });
  if (pending_.empty()) changed_.notify_all();
}

bool NcclEngine::finished(NcclOperation& operation) {
  if (operation.done_) return true;
  if (!operation.recorded_) return false;
  const cudaError_t state = cudaEventQuery(operation.event_);
  if (state == cudaErrorNotReady) return false;
  if (state == cudaSuccess) {
    complete(operation);
  } else {
    fail_all(fmt::format("{} failed on the GPU: {}", naming(operation), cuda_sentence(state)));
  }
  return true;
}

Work NcclEngine::start(const Request& request, Stream& stream, const std::function<int(ncclComm*)>& launch) {
  const CudaDeviceScope scope(device_);
  const std::lock_guard one(launching_);
  const auto operation = std::make_shared<NcclOperation>(shared_from_this(), request);
  Lock lock(mutex_);
  throw_failure();
  pending_.push_back(operation);  // before the launch: the first on a communicator waits for the other ranks
  changed_.notify_all();
  flight_->start(request.id);
  const int result = settle(lock, launch(comm_));
  if (result != ncclSuccess) {
    fail_all(fmt::format("{} could not be started: {}", naming(*operation), nccl_sentence(result, comm_)));
    throw_aborted(lock);
  }
  const auto error = cudaEventRecord(operation->event_, static_cast<cudaStream_t>(stream.handle()));
  if (error != cudaSuccess) {
    fail_all(fmt::format("{}: no event could be recorded: {}", naming(*operation), cuda_sentence(error)));
    throw_aborted(lock);
  }
  operation->recorded_ = true;
  return Work(operation);
}

// A call on comm_ returned `result`: waits until NCCL has done what it goes on with in the background.
int NcclEngine::settle(Lock& lock, int result) {
  Pause pause(500us);
  while (result == ncclInProgress) {
    ncclResult_t state = ncclSuccess;
    const int asked = ncclCommGetAsyncError(comm_, &state);
    result = asked == ncclSuccess ? state : asked;
    if (result != ncclInProgress) break;
    lock.unlock();
    std::this_thread::sleep_for(pause.next());
    lock.lock();
    throw_aborted(lock);
  }
  return result;
}

// The same where nobody else knows the communicator yet; gives up at the deadline, or with others.
int NcclEngine::settle_before(ncclComm* const& comm, int result, Deadline deadline,
                              const std::function<bool()>& given_up) {
  Pause pause(5ms);
  auto ask = Flight::Clock::now() + 200ms;
  while (result == ncclInProgress && Flight::Clock::now() < deadline) {
    if (given_up && Flight::Clock::now() > ask) {
      if (given_up()) break;
      ask = Flight::Clock::now() + 200ms;
    }
    ncclResult_t state = ncclSuccess;
    const int asked = comm != nullptr ? ncclCommGetAsyncError(comm, &state) : ncclSuccess;
    result = asked == ncclSuccess ? state : asked;
    if (result == ncclInProgress) std::this_thread::sleep_for(pause.next());
  }
  return result;
}

void NcclEngine::connect(const std::string& id, Deadline deadline, const std::function<std::string()>& elsewhere) {
  const CudaDeviceScope scope(device_);
  ncclUniqueId unique;
  DUJIANG_CHECK(id.size() == sizeof unique.internal, "the unique id of NCCL has {} bytes, expected {}", id.size(),
                sizeof unique.internal);
  std::copy(id.begin(), id.end(), unique.internal);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  const auto begin = Flight::Clock::now();
  const int size = static_cast<int>(flight_->members().size());
  std::string cause;
  const auto given_up = [&] {
    cause = elsewhere();
    return !cause.empty();
  };
  const int result =
      settle_before(comm_, ncclCommInitRankConfig(&comm_, size, unique, flight_->rank(), &config), deadline, given_up);
  if (result == ncclSuccess) return;
  const std::string said = nccl_sentence(result, comm_);
  end(abort);
  if (!cause.empty()) fail("connecting the ranks ({}): {}", who(), cause);
  if (result == ncclInProgress) {
    fail_user(
        "the {} ranks of communicator {} found one another, but NCCL could not connect them within {:.1f} s (rank {}): "
        "look at the network interface NCCL chose (NCCL_DEBUG=INFO shows it, NCCL_SOCKET_IFNAME sets it) and at "
        "firewalls between the hosts",
        size, flight_->name(), std::chrono::duration<double>(Flight::Clock::now() - begin).count(), flight_->rank());
  }
  fail("connecting the ranks ({}): {}", who(), said);
}

std::shared_ptr<NcclEngine> NcclEngine::split(int color, int key, std::shared_ptr<Flight> child, Deadline deadline) {
  drain();
  const CudaDeviceScope scope(device_);
  const std::lock_guard one(launching_);
  Lock lock(mutex_);
  throw_failure();
  child_ = std::make_shared<NcclEngine>(device_, std::move(child));
  // NCCL fills in the child only when the parent is ready again, and each then has a state of its own.
  int result = ncclCommSplit(comm_, color < 0 ? NCCL_SPLIT_NOCOLOR : color, key, &child_->comm_, nullptr);
  result = settle_before(comm_, result, deadline);
  if (result == ncclSuccess && color >= 0) result = settle_before(child_->comm_, ncclInProgress, deadline);
  if (result != ncclSuccess) {
    fail_all(result == ncclInProgress ? fmt::format("split ({}): some rank did not take part in time", who())
                                      : fmt::format("split ({}): {}", who(), nccl_sentence(result, comm_)));
    throw_failure();
  }
  const auto made = std::move(child_);
  return color >= 0 ? made : nullptr;
}

void NcclEngine::drain() {
  Lock lock(mutex_);
  changed_.wait(lock, [&] { return pending_.empty() || !why_.empty(); });
  throw_failure();
}

std::shared_ptr<void> NcclEngine::allocate(std::size_t bytes) {
  const CudaDeviceScope scope(device_);
  bytes = std::max<std::size_t>(bytes, 1);
  void* memory = nullptr;
  const int result = ncclMemAlloc(&memory, bytes);
  DUJIANG_CHECK(result == ncclSuccess && memory != nullptr, "{} bytes on GPU {} for communication ({}): {}", bytes,
                device_, who(), nccl_sentence(result));
  std::shared_ptr<void> owner(memory, [self = shared_from_this()](void* p) { self->release(p); });
  // Not the default stream: it would wait for everything else on the GPU.
  cudaStream_t stream = nullptr;
  check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
  auto error = cudaMemsetAsync(memory, 0, bytes, stream);
  if (error == cudaSuccess) error = cudaStreamSynchronize(stream);
  (void)cudaStreamDestroy(stream);
  check_cuda(error, "zeroing memory for communication");

  const std::lock_guard one(launching_);
  Lock lock(mutex_);
  throw_failure();
  void* handle = nullptr;
  const int registered = settle(lock, ncclCommRegister(comm_, memory, bytes, &handle));
  // Ranks may not mix registered and ordinary memory, so no rank goes on without.
  DUJIANG_CHECK(registered == ncclSuccess, "registering {} bytes for communication ({}): {}", bytes, who(),
                nccl_sentence(registered, comm_));
  if (handle != nullptr) registered_.emplace(memory, handle);  // null: registration is switched off
  return owner;
}

void NcclEngine::release(void* memory) {
  {
    Lock lock(mutex_);
    const auto entry =
        std::find_if(registered_.begin(), registered_.end(), [&](const auto& r) { return r.first == memory; });
    if (entry != registered_.end()) {
      if (comm_ != nullptr && why_.empty()) (void)ncclCommDeregister(comm_, entry->second);
      registered_.erase(entry);
    }
    changed_.wait(lock, [&] { return !ending_; });
    if (stuck_) return;  // freeing would wait for kernels that never end
  }
  int before = 0;
  const bool known = cudaGetDevice(&before) == cudaSuccess && cudaSetDevice(device_) == cudaSuccess;
  (void)ncclMemFree(memory);
  if (known) (void)cudaSetDevice(before);
}

// Whether anything came to its end.
bool NcclEngine::poll() {
  const auto before = pending_.size();
  while (!pending_.empty() && why_.empty()) {
    const auto front = pending_.front();  // one communicator's operations run one after the other
    if (!finished(*front)) break;
  }
  if (!pending_.empty() && why_.empty()) poll_front();
  return pending_.size() != before;
}

void NcclEngine::poll_front() {
  const NcclOperation& front = *pending_.front();
  ncclResult_t state = ncclSuccess;
  const int asked = ncclCommGetAsyncError(comm_, &state);
  const int result = asked == ncclSuccess ? state : asked;
  if (result != ncclSuccess && result != ncclInProgress) {
    return fail_all(fmt::format("{} failed: {}", naming(front), nccl_sentence(result, comm_)));
  }
  const auto& watchdog = flight_->watchdog();
  const auto timeout = watchdog ? watchdog->timeout() : 0ms;
  const auto waited = Flight::Clock::now() - front.requested_;
  if (timeout > 0ms && waited > timeout + grace) {
    fail_all(fmt::format("{} was not complete after {:.1f} s (comm.timeout is {:.1f} s) and was aborted", naming(front),
                         std::chrono::duration<double>(waited).count(),
                         std::chrono::duration<double>(timeout).count()));
  }
}

void NcclEngine::watch() {
  (void)cudaSetDevice(device_);
  Lock lock(mutex_);
  Pause pause(2ms);
  while (why_.empty() && !(closing_ == Closing::orderly && pending_.empty())) {
    if (closing_ == Closing::abandon) {
      fail_all(fmt::format("abandoned ({}): the rank left with an error", who()));
    } else if (pending_.empty()) {
      changed_.wait(lock);
      pause = Pause(2ms);
    } else if (poll()) {
      pause = Pause(2ms);
    } else {
      changed_.wait_for(lock, pause.next());
    }
  }
  if (why_.empty()) finalize();
  lock.unlock();
  if (why_.empty()) {
    end(destroy);
  } else {
    end(abort);
    if (child_) child_->end(abort);  // NCCL's order: the parent first
  }
}

// Flushes the communicator, which can take as long as the slowest rank does.
void NcclEngine::finalize() {
  for (const auto& [memory, handle] : registered_) (void)ncclCommDeregister(comm_, handle);
  registered_.clear();
  const auto timeout = flight_->watchdog() ? flight_->watchdog()->timeout() : 0ms;
  const auto deadline = Flight::Clock::now() + (timeout > 0ms ? timeout : std::chrono::milliseconds(60s));
  if (settle_before(comm_, ncclCommFinalize(comm_), deadline) != ncclSuccess) {
    fail_all(fmt::format("closing ({}): the other ranks did not finish in time", who()));
  }
}

// The last call on the communicator. No other is under way: those who would make one look at comm_ first. The call runs
// on a thread of its own that is left behind when it doesn't return; it keeps what NCCL may still write to.
void NcclEngine::end(int (*call)(ncclComm*)) {
  Lock lock(mutex_);
  ncclComm* const comm = std::exchange(comm_, nullptr);
  if (comm == nullptr) return;
  ending_ = true;
  auto done = std::make_shared<std::promise<void>>();
  auto returned = done->get_future();
  std::thread([call, comm, done, self = shared_from_this()]() mutable {
    (void)call(comm);
    self.reset();  // before anyone goes on: the store behind it must not end on this thread, after main
    done->set_value();
  }).detach();
  lock.unlock();
  const bool in_time = returned.wait_for(ending) == std::future_status::ready;
  lock.lock();
  stuck_ = !in_time;
  ending_ = false;
  changed_.notify_all();
}

void NcclEngine::close(bool abandon) {
  const std::lock_guard lock(mutex_);
  closing_ = abandon ? Closing::abandon : Closing::orderly;
  changed_.notify_all();
}

}  // namespace dujiang::comm
