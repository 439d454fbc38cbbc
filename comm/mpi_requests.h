#pragma once
// Transfers under way on one MPI communicator. Included by sources of the mpi transport only.

#include <mpi.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

#include "comm/mpi_session.h"
#include "framework/base/check.h"

namespace dujiang::comm {

inline void check_mpi(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  fail("{} failed: {}", call, text);
}

/// Waits between polls: not at all for what is about to arrive, then giving way to threads that compute, then asleep,
/// longer the longer it takes: a transfer is noticed late by an eighth of its time at most, and a peer that comes
/// seconds late costs next to no processor time.
class Patience {
 public:
  void pause() {
    using std::chrono::microseconds;
    const auto waited = Clock::now() - start_;
    if (waited < microseconds(10)) return;
    if (waited < microseconds(100)) {
      sched_yield();
    } else {
      std::this_thread::sleep_for(std::clamp<Clock::duration>(waited / 8, microseconds(20), microseconds(500)));
    }
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

class Requests {
 public:
  Requests(MPI_Comm comm, const MpiSession& session) : comm_(comm), session_(session) {}

  void send(const void* data, std::size_t bytes, int to, int tag) {
    requests_.push_back(MPI_REQUEST_NULL);
    check_mpi(MPI_Isend(data, static_cast<int>(bytes), MPI_BYTE, to, tag, comm_, &requests_.back()), "MPI_Isend");
  }
  void receive(void* data, std::size_t bytes, int from, int tag) {
    requests_.push_back(MPI_REQUEST_NULL);
    check_mpi(MPI_Irecv(data, static_cast<int>(bytes), MPI_BYTE, from, tag, comm_, &requests_.back()), "MPI_Irecv");
  }
  void barrier() {
    requests_.push_back(MPI_REQUEST_NULL);
    check_mpi(MPI_Ibarrier(comm_, &requests_.back()), "MPI_Ibarrier");
  }

  /// Returns once all of them are complete; throws when the session is cancelled.
  void finish() {
    Patience patience;
    for (int done = 0; !requests_.empty();) {
      check_mpi(MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done, MPI_STATUSES_IGNORE),
                "MPI_Testall");
      if (done != 0) {
        requests_.clear();
        return;
      }
      DUJIANG_CHECK(!session_.cancelled(), "abandoned: the job is ending");
      patience.pause();
    }
  }

 private:
  MPI_Comm comm_;
  const MpiSession& session_;
  std::vector<MPI_Request> requests_;
};

}  // namespace dujiang::comm
