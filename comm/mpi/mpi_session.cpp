#include "comm/mpi/mpi_session.h"

#include <mpi.h>
#include <sys/prctl.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <future>

#include "comm/host/host_blocks.h"
#include "comm/mpi/mpi_check.h"
#include "framework/base/check.h"

namespace dujiang::comm {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* abandoned = "abandoned: an earlier operation failed, or the job is ending";

// How long to sleep between polls: not at all for what is about to arrive, then longer the longer it takes: a transfer
// is noticed late by an eighth of its time at most, and a peer that comes seconds late costs next to no processor time.
Clock::duration pause_after(Clock::duration waited) {
  using std::chrono::microseconds;
  if (waited < microseconds(100)) return {};
  return std::clamp<Clock::duration>(waited / 8, microseconds(20), microseconds(500));
}

}  // namespace

class MpiSession::Transfer {
 public:
  std::vector<MPI_Request> requests;  // of MPI's thread alone

  void complete(std::exception_ptr why) {
    const std::lock_guard lock(mutex_);
    error_ = std::move(why);
    done_ = true;
    changed_.notify_all();
  }
  std::exception_ptr wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return done_; });
    return error_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  std::exception_ptr error_;
};

bool mpi_running() {
  int initialized = 0, finalized = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  return initialized != 0 && finalized == 0;
}

MpiSession::MpiSession() : thread_([this] { run(); }) {
  try {
    call([this] {
      int initialized = 0;
      MPI_Initialized(&initialized);
      DUJIANG_CHECK(initialized == 0,
                    "MPI was already initialised in this process; make one communicator of transport mpi and split it");
      int provided = 0;
      // Serialized, as MPI_Abort may come from another thread once this one has stopped.
      MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided);
      DUJIANG_CHECK(provided >= MPI_THREAD_SERIALIZED, "MPI gives thread level {}, expected MPI_THREAD_SERIALIZED ({})",
                    provided, MPI_THREAD_SERIALIZED);
      MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
      check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
      check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &size_), "MPI_Comm_size");
      MPI_Comm host = MPI_COMM_NULL;
      check_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &host),
                "MPI_Comm_split_type");
      int lowest = rank_;
      check_mpi(MPI_Bcast(&lowest, 1, MPI_INT, 0, host), "MPI_Bcast");
      MPI_Comm_free(&host);
      hosts_.resize(static_cast<std::size_t>(size_));
      check_mpi(MPI_Allgather(&lowest, 1, MPI_INT, hosts_.data(), 1, MPI_INT, MPI_COMM_WORLD), "MPI_Allgather");
      // The default slack of 50 us would make every short sleep between polls that much longer.
      prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL);
    });
  } catch (...) {
    post([this] { stop_ = true; });
    thread_.join();
    throw;
  }
}

MpiSession::~MpiSession() {
  const bool orderly = !cancelled_ && std::uncaught_exceptions() == 0;
  post([this, orderly] {
    if (orderly) MPI_Finalize();
    stop_ = true;
  });
  thread_.join();
}

bool MpiSession::one_host() const {
  return std::all_of(hosts_.begin(), hosts_.end(), [](int host) { return host == 0; });
}

void MpiSession::post(std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  changed_.notify_one();
}

void MpiSession::call(std::function<void()> body) {
  std::packaged_task<void()> task(std::move(body));
  auto done = task.get_future();
  post([&task] { task(); });
  done.get();
}

std::string MpiSession::broadcast_bytes(std::string value) {
  call([&] {
    std::int64_t bytes = static_cast<std::int64_t>(value.size());
    check_mpi(MPI_Bcast(&bytes, 1, MPI_INT64_T, 0, MPI_COMM_WORLD), "MPI_Bcast");
    value.resize(static_cast<std::size_t>(bytes));
    check_mpi(MPI_Bcast(value.data(), static_cast<int>(bytes), MPI_BYTE, 0, MPI_COMM_WORLD), "MPI_Bcast");
  });
  return value;
}

std::shared_ptr<MpiSession::Transfer> MpiSession::start(void* mpi_comm, std::vector<MpiMessage> messages) {
  auto transfer = std::make_shared<Transfer>();
  post([this, transfer, comm = static_cast<MPI_Comm>(mpi_comm), messages = std::move(messages)] {
    transfer->requests.assign(messages.size(), MPI_REQUEST_NULL);
    try {
      if (cancelled_) throw Abandoned(abandoned);
      for (std::size_t i = 0; i < messages.size(); ++i) {
        const auto& m = messages[i];
        const int bytes = static_cast<int>(m.bytes);
        if (m.send) {
          check_mpi(MPI_Isend(m.data, bytes, MPI_BYTE, m.peer, m.tag, comm, &transfer->requests[i]), "MPI_Isend");
        } else {
          check_mpi(MPI_Irecv(m.data, bytes, MPI_BYTE, m.peer, m.tag, comm, &transfer->requests[i]), "MPI_Irecv");
        }
      }
      active_.push_back(transfer);
    } catch (...) {
      transfer->complete(std::current_exception());
    }
  });
  return transfer;
}

void MpiSession::wait(Transfer& transfer) {
  if (const auto error = transfer.wait()) std::rethrow_exception(error);
}

void MpiSession::cancel() {
  cancelled_ = true;
  post([] {});
}

void MpiSession::run() {
  auto progress = Clock::now();  // when something last happened
  while (!stop_) {
    std::function<void()> task;
    {
      std::unique_lock lock(mutex_);
      const auto waiting = [this] { return !tasks_.empty(); };
      if (active_.empty()) {
        changed_.wait(lock, waiting);
      } else if (const auto pause = pause_after(Clock::now() - progress); pause > Clock::duration()) {
        changed_.wait_for(lock, pause, waiting);
      }
      if (!tasks_.empty()) {
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
    }
    if (task) {
      task();
      progress = Clock::now();
    }
    for (auto i = active_.begin(); i != active_.end();) {
      auto& transfer = **i;
      int done = 0;
      std::exception_ptr error;
      if (cancelled_) {
        error = std::make_exception_ptr(Abandoned(abandoned));
      } else if (const int code = MPI_Testall(static_cast<int>(transfer.requests.size()), transfer.requests.data(),
                                              &done, MPI_STATUSES_IGNORE);
                 code != MPI_SUCCESS) {
        error = std::make_exception_ptr(Error(mpi_error(code, "MPI_Testall")));
      }
      if (done == 0 && !error) {
        ++i;
        continue;
      }
      transfer.complete(error);
      progress = Clock::now();
      i = active_.erase(i);
    }
    if (!active_.empty() && !task) std::this_thread::yield();
  }
}

void abort_mpi_job(int status) {
  if (mpi_running()) MPI_Abort(MPI_COMM_WORLD, status);
}

}  // namespace dujiang::comm
