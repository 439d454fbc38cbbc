#include "comm/store/socket.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "framework/base/check.h"

namespace dujiang::comm {
namespace {

std::string text_of(const sockaddr* address, socklen_t bytes) {
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> service{};
  if (getnameinfo(address, bytes, host.data(), host.size(), service.data(), service.size(),
                  NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "an unknown address";
  }
  const bool v6 = address->sa_family == AF_INET6;
  return fmt::format("{}{}{}:{}", v6 ? "[" : "", host.data(), v6 ? "]" : "", service.data());
}

void option(int fd, int level, int name, int value) {
  setsockopt(fd, level, name, &value, sizeof value);
}

bool wait_for(const Socket& socket, short events, Deadline deadline) {
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    pollfd polled{socket.fd(), events, 0};
    const int ready = poll(&polled, 1, static_cast<int>(std::clamp<std::int64_t>(left, 0, 1'000'000)));
    if (ready > 0) return true;
    if (ready == 0 && left <= 1'000'000) return false;
    if (ready < 0 && errno != EINTR) return false;
  }
}

struct Bound {
  Socket socket;
  int error = 0;
};

Bound bind_and_listen(const Endpoint& endpoint) {
  Socket socket(::socket(endpoint.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return {{}, errno};
  option(socket.fd(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (endpoint.family == AF_INET6) option(socket.fd(), IPPROTO_IPV6, IPV6_V6ONLY, 1);
  const auto* address = reinterpret_cast<const sockaddr*>(endpoint.address.data());
  if (bind(socket.fd(), address, static_cast<socklen_t>(endpoint.address.size())) != 0 ||
      listen(socket.fd(), 1024) != 0) {
    return {{}, errno};
  }
  return {std::move(socket), 0};
}

int port_of(const Socket& socket) {
  sockaddr_storage address{};
  socklen_t bytes = sizeof address;
  DUJIANG_CHECK(getsockname(socket.fd(), reinterpret_cast<sockaddr*>(&address), &bytes) == 0, "getsockname: {}",
                std::strerror(errno));
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

}  // namespace

Socket& Socket::operator=(Socket&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

Socket::~Socket() {
  if (fd_ >= 0) close(fd_);
}

Waker::Waker() : socket_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  DUJIANG_CHECK(socket_, "eventfd: {}", std::strerror(errno));
}

void Waker::wake() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = write(fd(), &one, sizeof one);  // only fails when it is set already
}

void Waker::clear() {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto got = read(fd(), &count, sizeof count);
}

std::vector<Socket> listen_tcp(const std::vector<std::string>& hosts, int& port) {
  const int wanted = port;
  for (int attempt = 0;; ++attempt) {
    port = wanted;
    std::vector<Socket> listeners;
    bool taken_elsewhere = false;
    for (const auto& host : hosts) {
      std::string why;
      const auto endpoints = resolve(host, port, why);
      if (endpoints.empty()) fail_user("rank 0 can't serve its store at {}: {}", host, why);
      bool listens = false;
      for (std::size_t i = 0; i < endpoints.size(); ++i) {
        std::string unused;
        // The port may have been chosen since.
        const auto endpoint = resolve(host, port, unused).at(i);
        auto bound = bind_and_listen(endpoint);
        if (bound.socket) {
          if (port == 0) port = port_of(bound.socket);
          listeners.push_back(std::move(bound.socket));
          listens = true;
        } else if (bound.error == EADDRINUSE && wanted == 0 && attempt < 50) {
          taken_elsewhere = true;
        } else if (bound.error == EADDRINUSE) {
          fail_user(
              "port {} of {} is in use: another job, one that was left over, or a second rank 0 listens there. Set "
              "MASTER_PORT to a "
              "free port for all ranks, or end the other job",
              port, host);
        } else {
          why = fmt::format("{}: {}", endpoint.text, std::strerror(bound.error));
        }
      }
      if (!listens && !taken_elsewhere) {
        fail_user(
            "rank 0 can't serve its store at {}: {}. MASTER_ADDR has to be an address of the machine of rank 0, and "
            "MASTER_PORT one that this user may open",
            host, why);
      }
    }
    if (!taken_elsewhere) return listeners;
  }
}

std::vector<std::string> own_addresses() {
  ifaddrs* interfaces = nullptr;
  DUJIANG_CHECK(getifaddrs(&interfaces) == 0, "getifaddrs: {}", std::strerror(errno));
  std::vector<std::string> v4, v6;
  for (const auto* i = interfaces; i != nullptr; i = i->ifa_next) {
    if (i->ifa_addr == nullptr || (i->ifa_flags & IFF_UP) == 0 || (i->ifa_flags & IFF_LOOPBACK) != 0) continue;
    const int family = i->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    if (family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&reinterpret_cast<const sockaddr_in6*>(i->ifa_addr)->sin6_addr)) {
      continue;
    }
    std::array<char, NI_MAXHOST> host{};
    const socklen_t bytes = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    if (getnameinfo(i->ifa_addr, bytes, host.data(), host.size(), nullptr, 0, NI_NUMERICHOST) != 0) continue;
    // An IPv6 address that is still being checked for duplicates can't be listened at.
    std::string why;
    const auto endpoints = resolve(host.data(), 0, why);
    if (endpoints.empty() || !bind_and_listen(endpoints.front()).socket) continue;
    (family == AF_INET ? v4 : v6).emplace_back(host.data());
  }
  freeifaddrs(interfaces);
  v4.insert(v4.end(), v6.begin(), v6.end());
  return v4;
}

std::vector<Endpoint> resolve(const std::string& host, int port, std::string& why) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (error != 0) {
    why = error == EAI_SYSTEM ? std::strerror(errno) : gai_strerror(error);
    return {};
  }
  std::vector<Endpoint> endpoints;
  for (const auto* a = found; a != nullptr; a = a->ai_next) {
    if (a->ai_family != AF_INET && a->ai_family != AF_INET6) continue;
    endpoints.push_back(
        {text_of(a->ai_addr, a->ai_addrlen), {reinterpret_cast<const char*>(a->ai_addr), a->ai_addrlen}, a->ai_family});
  }
  freeaddrinfo(found);
  if (endpoints.empty()) why = "it has neither an IPv4 nor an IPv6 address";
  return endpoints;
}

Socket connect_tcp(const Endpoint& endpoint, Deadline deadline, std::string& why) {
  Socket socket(::socket(endpoint.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  int error = socket ? 0 : errno;
  if (error == 0 && connect(socket.fd(), reinterpret_cast<const sockaddr*>(endpoint.address.data()),
                            static_cast<socklen_t>(endpoint.address.size())) != 0) {
    error = errno;
    if (error == EINPROGRESS) {
      socklen_t bytes = sizeof error;
      if (!wait_writable(socket, deadline)) {
        error = ETIMEDOUT;
      } else if (getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &bytes) != 0) {
        error = errno;
      }
    }
  }
  if (error != 0) {
    why = error == ETIMEDOUT ? "no answer" : std::strerror(error);
    return {};
  }
  tune(socket);
  return socket;
}

std::pair<Socket, Socket> socket_pair() {
  std::array<int, 2> fds{};
  DUJIANG_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds.data()) == 0, "socketpair: {}",
                std::strerror(errno));
  return {Socket(fds[0]), Socket(fds[1])};
}

void tune(const Socket& socket) {
  option(socket.fd(), IPPROTO_TCP, TCP_NODELAY, 1);
  option(socket.fd(), SOL_SOCKET, SO_KEEPALIVE, 1);
  option(socket.fd(), IPPROTO_TCP, TCP_KEEPIDLE, 10);
  option(socket.fd(), IPPROTO_TCP, TCP_KEEPINTVL, 5);
  option(socket.fd(), IPPROTO_TCP, TCP_KEEPCNT, 4);
  option(socket.fd(), IPPROTO_TCP, TCP_USER_TIMEOUT, 30'000);
}

std::string peer_of(const Socket& socket) {
  sockaddr_storage address{};
  socklen_t bytes = sizeof address;
  if (getpeername(socket.fd(), reinterpret_cast<sockaddr*>(&address), &bytes) != 0) return "an unknown address";
  if (address.ss_family == AF_UNIX) return "the process of rank 0";
  return text_of(reinterpret_cast<const sockaddr*>(&address), bytes);
}

bool send_some(const Socket& socket, std::string& bytes) {
  while (!bytes.empty()) {
    const auto sent = send(socket.fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      bytes.erase(0, static_cast<std::size_t>(sent));
    } else if (errno != EINTR) {
      return errno == EAGAIN || errno == EWOULDBLOCK;
    }
  }
  return true;
}

Received receive_some(const Socket& socket, std::string& bytes, std::size_t limit) {
  std::array<char, 16384> piece;
  while (true) {
    const auto got = recv(socket.fd(), piece.data(), std::min(limit, piece.size()), 0);
    if (got > 0) {
      bytes.append(piece.data(), static_cast<std::size_t>(got));
      return Received::some;
    }
    if (got == 0) return Received::closed;
    if (errno == EINTR) continue;
    return errno == EAGAIN || errno == EWOULDBLOCK ? Received::nothing : Received::closed;
  }
}

bool wait_readable(const Socket& socket, Deadline deadline) {
  return wait_for(socket, POLLIN, deadline);
}

bool wait_writable(const Socket& socket, Deadline deadline) {
  return wait_for(socket, POLLOUT, deadline);
}

FrameWriter& FrameWriter::number(std::uint32_t value) {
  for (int shift = 0; shift < 32; shift += 8) bytes_ += static_cast<char>(value >> shift & 0xff);
  return *this;
}

FrameWriter& FrameWriter::text(std::string_view value) {
  number(static_cast<std::uint32_t>(value.size()));
  bytes_ += value;
  return *this;
}

std::string FrameWriter::done() {
  const auto length = static_cast<std::uint32_t>(bytes_.size() - 4);
  for (std::size_t i = 0; i < 4; ++i) bytes_[i] = static_cast<char>(length >> (8 * i) & 0xff);
  return std::move(bytes_);
}

std::string_view FrameReader::take(std::size_t bytes) {
  DUJIANG_CHECK(bytes <= rest_.size(), "a frame of the store ends too early");
  const auto taken = rest_.substr(0, bytes);
  rest_.remove_prefix(bytes);
  return taken;
}

std::uint32_t FrameReader::number() {
  std::uint32_t value = 0;
  int shift = 0;
  for (const char c : take(4)) {
    value |= std::uint32_t{static_cast<unsigned char>(c)} << shift;
    shift += 8;
  }
  return value;
}

std::string_view FrameReader::text() {
  return take(number());
}

std::optional<std::string> take_frame(std::string& buffer, std::size_t limit) {
  if (buffer.size() < 4) return std::nullopt;
  const std::size_t length = FrameReader(buffer).number();
  DUJIANG_CHECK(length > 0 && length <= limit, "a frame of the store has {} bytes, expected 1 to {}", length, limit);
  if (buffer.size() < 4 + length) return std::nullopt;
  auto frame = buffer.substr(4, length);
  buffer.erase(0, 4 + length);
  return frame;
}

}  // namespace dujiang::comm
