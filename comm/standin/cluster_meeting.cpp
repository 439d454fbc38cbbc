#include "comm/standin/cluster_meeting.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>

#include "framework/base/check.h"

namespace dujiang::standin {
namespace {

using Clock = std::chrono::steady_clock;

class Socket {
 public:
  Socket() : fd_(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)) {}
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket() { ::close(fd_); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int get() const { return fd_; }
  bool readable(Clock::time_point deadline) const {
    pollfd entry{fd_, POLLIN, 0};
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    return ::poll(&entry, 1, static_cast<int>(std::max<long long>(left, 0))) > 0;
  }

 private:
  int fd_;
};

// An abstract address made of the file's identity: copies of a table are other jobs.
sockaddr_un address_of(const std::string& file, socklen_t& length) {
  struct stat status = {};
  DUJIANG_CHECK(::stat(file.c_str(), &status) == 0, "stand-in: {}: {}", file, std::strerror(errno));
  const std::string name = fmt::format("dujiang-standin-{}-{}", status.st_dev, status.st_ino);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  return address;
}

}  // namespace

std::string share_id(const std::string& file, int rank, int size, Clock::time_point deadline,
                     const std::function<std::string()>& make) {
  socklen_t length = 0;
  const sockaddr_un address = address_of(file, length);
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  if (rank == 0) {
    std::string id = make();
    const Socket listener;
    DUJIANG_CHECK(::bind(listener.get(), generic, length) == 0 && ::listen(listener.get(), 64) == 0,
                  "stand-in: can't listen for the ranks of {}: {}", file, std::strerror(errno));
    for (int served = 1; served < size; ++served) {
      DUJIANG_CHECK(listener.readable(deadline), "stand-in: {} of {} ranks of {} came", served, size, file);
      const Socket peer(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (::send(peer.get(), id.data(), id.size(), MSG_NOSIGNAL) < 0) --served;
    }
    return id;
  }
  for (;;) {
    const Socket peer;
    if (::connect(peer.get(), generic, length) == 0 && peer.readable(deadline)) {
      char id[256];
      const auto bytes = ::recv(peer.get(), id, sizeof id, 0);
      if (bytes > 0) return std::string(id, static_cast<std::size_t>(bytes));
    }
    DUJIANG_CHECK(Clock::now() < deadline, "stand-in: rank {} waited in vain for rank 0 of {}", rank, file);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

}  // namespace dujiang::standin
