#pragma once
// What the tests of the stores share: the stores of a job, and a rank of it that is another process.

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/test/unit_test.hpp>
#include <chrono>
#include <csignal>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "comm/store/store.h"
#include "tests/support/temp_folder.h"

namespace dujiang::comm::store_test {

using namespace std::chrono_literals;
using dujiang::test::TempFolder;

inline Deadline in(std::chrono::milliseconds time) {
  return std::chrono::steady_clock::now() + time;
}

// The stores of one job's ranks, of either kind.
class Job {
 public:
  Job(const std::string& kind, int size) : kind_(kind), size_(size) {}

  std::shared_ptr<Store> serve() {
    if (kind_ == "tcp") return serve_tcp_store(address, size_);
    return open_file_store(folder(), address.token, 0, size_, in(60s));
  }
  std::shared_ptr<Store> join(int rank, int size = 0, std::chrono::milliseconds time = 60s) const {
    if (size == 0) size = size_;
    if (kind_ == "tcp") return connect_tcp_store(address, rank, size, in(time));
    return open_file_store(folder(), address.token, rank, size, in(time));
  }
  std::string folder() const { return folder_ / "store"; }
  std::string where() const { return kind_ == "tcp" ? std::to_string(address.port) : folder(); }
  const std::string& kind() const { return kind_; }
  int size() const { return size_; }

  StoreAddress address{{"127.0.0.1"}, 0, "the token of this test"};

 private:
  std::string kind_;
  int size_;
  TempFolder folder_;
};

// store_peer as a process of its own.
class Peer {
 public:
  Peer(const Job& job, int rank, const std::string& action) {
    std::array<int, 2> pipe_ends{};
    BOOST_REQUIRE(pipe(pipe_ends.data()) == 0);
    out_ = pipe_ends[0];
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pipe_ends[1], 1);
    posix_spawn_file_actions_addclose(&actions, out_);
    std::array<std::string, 7> words{
        STORE_PEER, job.kind(), job.where(), job.address.token, std::to_string(rank), std::to_string(job.size()),
        action};
    std::array<char*, 8> argv{};
    std::transform(words.begin(), words.end(), argv.begin(), [](std::string& w) { return w.data(); });
    BOOST_REQUIRE(posix_spawn(&pid_, STORE_PEER, &actions, nullptr, argv.data(), environ) == 0);
    posix_spawn_file_actions_destroy(&actions);
    close(pipe_ends[1]);
  }
  ~Peer() {
    kill();
    close(out_);
  }
  void kill() {
    if (pid_ > 0) ::kill(pid_, SIGKILL);
    status();
  }
  int status() {
    int status = -1;
    if (pid_ > 0) waitpid(pid_, &status, 0);
    pid_ = -1;
    return status;
  }
  std::string line() {
    std::string text;
    for (char c = 0; read(out_, &c, 1) == 1 && c != '\n';) text += c;
    return text;
  }

 private:
  pid_t pid_ = -1;
  int out_ = -1;
};

inline bool eventually(const std::function<bool()>& condition) {
  for (const auto until = in(30s); std::chrono::steady_clock::now() < until; std::this_thread::sleep_for(5ms)) {
    if (condition()) return true;
  }
  return false;
}

}  // namespace dujiang::comm::store_test
