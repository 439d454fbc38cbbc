#include "comm/hccl/hccl_session.h"

#include <algorithm>
#include <chrono>
#include <set>

#include "comm/watch/publication.h"
#include "framework/base/check.h"

namespace dujiang::hccl {

using comm::Request;
using comm::Work;
using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

namespace {

// Events that a stream was told to wait for are kept until so many later ones have followed: the wait itself is
// queued, and must find its event.
constexpr std::size_t retired_kept = 256;

}  // namespace

Handle::~Handle() {
  try {
    library_->use_device(device_);
    const auto end = Clock::now() + 5s;
    for (;;) {
      {
        const std::lock_guard lock(library_->calls);
        if (library_->HcclCommDestroy(comm_) != HCCL_E_AGAIN) return;
      }
      if (Clock::now() >= end) return;
      std::this_thread::sleep_for(10ms);
    }
  } catch (const std::exception&) {  // the device is lost, and the communicator with it
  }
}

class Session::Operation final : public Work::State {
 public:
  Operation(std::shared_ptr<Session> session, const Request& request, aclrtStream stream, std::shared_ptr<void> keep)
      : session(std::move(session)),
        id(request.id),
        what(request.op == comm::Op::batch_send_recv
                 ? fmt::format("{} of {} messages", name_of(request.op), request.messages.size())
                 : request.signature().str()),
        where(comm::place_of(request.where)),
        stream(stream),
        keep(std::move(keep)) {}

  void wait(Stream& by) override {
    if (by.device().type == DeviceType::cpu) return wait_host();
    const std::lock_guard lock(session->mutex_);
    if (session->settle(*this)) {
      if (!error.empty()) fail("{}", error);
      return;
    }
    session->library_->use_device(session->device_);
    const aclError code = session->library_->aclrtStreamWaitEvent(by.handle(), ended);
    session->library_->check_acl(code, session->sentence(*this, "aclrtStreamWaitEvent"));
    waited = true;
  }

  void wait_host() override {
    Clock::time_point looked = Clock::now();
    for (int n = 0;; ++n) {
      if (session->settled(*this)) break;
      if (n < 100) {
        std::this_thread::yield();
      } else {
        std::this_thread::sleep_for(std::min(20us * (n - 99), 1000us));
      }
      if (Clock::now() - looked > 20ms) {
        session->look_for_failure();
        looked = Clock::now();
      }
    }
    if (!error.empty()) fail("{}", error);
  }

  bool query() override { return session->settled(*this); }

  const std::shared_ptr<Session> session;
  const std::uint64_t id;
  const std::string what, where;
  const aclrtStream stream;
  aclrtEvent began = nullptr, ended = nullptr;
  // Below: under the session's lock until done is true.
  std::shared_ptr<void> keep;
  bool started = false, waited = false, done = false;
  std::string error;
};

Session::Session(std::shared_ptr<Handle> handle, std::shared_ptr<comm::Flight> flight)
    : library_(handle->shared_library()),
      flight_(std::move(flight)),
      device_(handle->device()),
      handle_(std::move(handle)),
      monitor_([this] { monitor(); }) {}

Session::~Session() {
  close(true);
}

std::string Session::sentence(const Operation& operation, const std::string& what) const {
  return fmt::format("{} (hccl, rank {} of {} in {}, called at {}): {}", operation.what, flight_->rank(),
                     flight_->members().size(), flight_->name(), operation.where, what);
}

void Session::destroy(aclrtEvent event) const {
  if (event != nullptr) library_->aclrtDestroyEvent(event);
}

Work Session::start(const Request& request, aclrtStream stream, const std::function<HcclResult()>& launch,
                    std::shared_ptr<void> keep) {
  auto operation = std::make_shared<Operation>(shared_from_this(), request, stream, std::move(keep));
  const auto check = [&](aclError error, const char* call) { library_->check_acl(error, sentence(*operation, call)); };
  DUJIANG_CHECK(stream != nullptr, "{}",
                sentence(*operation, "the stream has no handle: HCCL needs one made by aclrtCreateStream"));
  {
    const std::lock_guard lock(mutex_);
    if (!failure_.empty()) fail("{}", sentence(*operation, "refused after a failure: " + failure_));
  }
  try {
    library_->use_device(device_);
    check(library_->aclrtCreateEvent(&operation->began), "aclrtCreateEvent");
    check(library_->aclrtCreateEvent(&operation->ended), "aclrtCreateEvent");
    // May take long: HCCL connects the devices at the first use of an operation.
    const std::lock_guard calls(library_->calls);
    check(library_->aclrtRecordEvent(operation->began, stream), "aclrtRecordEvent");
    const HcclResult result = launch();
    DUJIANG_CHECK(result == HCCL_SUCCESS, "{}", sentence(*operation, describe(result) + library_->last_words()));
    check(library_->aclrtRecordEvent(operation->ended, stream), "aclrtRecordEvent");
  } catch (const std::exception& e) {
    const std::lock_guard lock(mutex_);
    destroy(operation->ended);
    if (operation->began != nullptr) retired_.push_back(operation->began);
    // What is under way on this rank will miss it on the others.
    fail_all(e.what());
    throw;
  }
  {
    const std::lock_guard lock(mutex_);
    running_.push_back(operation);
  }
  changed_.notify_all();
  return Work(std::move(operation));
}

// Whether the operation is over; notes it if it has just ended. Under the lock.
bool Session::settle(Operation& operation) {
  if (operation.done) return true;
  int status = acl_event_not_ready;
  if (!operation.started) {
    if (library_->aclrtQueryEventStatus(operation.began, &status) == acl_success && status == acl_event_complete) {
      operation.started = true;
      flight_->start(operation.id);
    }
  }
  status = acl_event_not_ready;
  const aclError code = library_->aclrtQueryEventStatus(operation.ended, &status);
  const bool over = code != acl_success || status == acl_event_complete;
  if (!over) return false;
  HcclResult result = HCCL_SUCCESS;  // an event also comes when the operation before it failed
  if (handle_) library_->HcclGetCommAsyncError(handle_->get(), &result);
  if (result != HCCL_SUCCESS) {
    fail_all(sentence(operation, describe(result) + library_->last_words()));
    return true;
  }
  if (code != acl_success) {
    fail_all(sentence(operation, fmt::format("the stream failed with ACL error {}{}", code, library_->last_words())));
    return true;
  }
  operation.done = true;
  operation.keep.reset();
  flight_->finish(operation.id);
  std::erase_if(running_, [&](const auto& other) { return other.get() == &operation; });
  retired_.push_back(operation.began);
  retired_.push_back(operation.ended);
  while (retired_.size() > retired_kept) {
    destroy(retired_.front());
    retired_.pop_front();
  }
  changed_.notify_all();
  return true;
}

bool Session::settled(Operation& operation) {
  const std::lock_guard lock(mutex_);
  if (operation.done) return true;
  library_->use_device(device_);
  return settle(operation);
}

// What an event never tells: an asynchronous error of HCCL, or a failure that another part of this rank found.
void Session::look_for_failure() {
  const std::lock_guard lock(mutex_);
  if (running_.empty() || !handle_) return;
  HcclResult result = HCCL_SUCCESS;
  const HcclResult code = library_->HcclGetCommAsyncError(handle_->get(), &result);
  if (code == HCCL_SUCCESS && result == HCCL_SUCCESS) {
    if (flight_->poisoned()) fail_all(flight_->snapshot().poison);
    return;
  }
  const auto first = running_.front();
  fail_all(sentence(*first, describe(result != HCCL_SUCCESS ? result : code) + library_->last_words()));
}

// Ends everything that runs with this reason. Under the lock.
void Session::fail_all(const std::string& why) {
  if (failure_.empty()) failure_ = why;
  flight_->poison(failure_);
  std::set<aclrtStream> streams;
  for (const auto& operation : running_) {
    operation->error = failure_;
    operation->done = true;
    flight_->fail(operation->id, failure_);
    streams.insert(operation->stream);
    retired_.push_back(operation->began);
    retired_.push_back(operation->ended);
  }
  for (const aclrtStream stream : streams) library_->aclrtStreamAbort(stream);
  for (const auto& operation : running_) operation->keep.reset();  // nothing reads it any more
  running_.clear();
  changed_.notify_all();
}

void Session::monitor() {
  auto pause = 200us;
  auto looked = Clock::now();
  bool ready = false;
  std::unique_lock lock(mutex_);
  while (!stop_) {
    if (running_.empty()) {
      changed_.wait(lock);
      pause = 200us;
      continue;
    }
    if (!ready) {
      try {
        library_->use_device(device_);
        ready = true;
      } catch (const std::exception& e) {
        fail_all(e.what());
        continue;
      }
    }
    const std::size_t before = running_.size();
    const auto operations = running_;
    for (const auto& operation : operations) settle(*operation);
    pause = running_.size() < before ? 200us : std::min<std::chrono::microseconds>(pause * 2, 5ms);
    if (Clock::now() - looked > 50ms) {
      looked = Clock::now();
      lock.unlock();
      look_for_failure();
      lock.lock();
    }
    if (!stop_ && !running_.empty()) changed_.wait_for(lock, pause);
  }
}

void Session::drain() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return running_.empty(); });
  if (!failure_.empty()) fail("{}", failure_);
}

void Session::close(bool abandon) noexcept {
  if (!monitor_.joinable()) return;
  {
    std::unique_lock lock(mutex_);
    if (!abandon) changed_.wait(lock, [this] { return running_.empty(); });
    if (!running_.empty()) fail_all(fmt::format("abandoned: rank {} ends with an error", flight_->rank()));
    stop_ = true;
  }
  changed_.notify_all();
  monitor_.join();
  try {
    library_->use_device(device_);
  } catch (const std::exception&) {
    return;  // the device is lost, and its events with it
  }
  for (const aclrtEvent event : retired_) destroy(event);
  retired_.clear();
  handle_.reset();
}

}  // namespace dujiang::hccl
