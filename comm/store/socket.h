#pragma once
// Sockets and length-prefixed frames of the TCP store. All sockets are non-blocking and closed on exec.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "comm/store/store.h"

namespace dujiang::comm {

/// Owns a file descriptor.
class Socket {
 public:
  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept;
  ~Socket();

  int fd() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

/// An eventfd: wakes a poll() from another thread.
class Waker {
 public:
  Waker();
  int fd() const { return socket_.fd(); }
  void wake();
  void clear();

 private:
  Socket socket_;
};

/// Listens at every address of the hosts, all on the same port; 0 becomes a free one. Throws UserError.
std::vector<Socket> listen_tcp(const std::vector<std::string>& hosts, int& port);

/// This machine's addresses that others may reach: none of loopback or of one link alone.
std::vector<std::string> own_addresses();

struct Endpoint {
  std::string text;     ///< "10.0.0.1:29500", "[::1]:29500"
  std::string address;  ///< a sockaddr's bytes
  int family = 0;
};
/// The addresses of a host's name; empty with the reason in `why` when there are none.
std::vector<Endpoint> resolve(const std::string& host, int port, std::string& why);
/// A connected socket, or an empty one and why not.
Socket connect_tcp(const Endpoint& endpoint, Deadline deadline, std::string& why);
std::pair<Socket, Socket> socket_pair();

/// Sends small frames at once and finds dead hosts within half a minute.
void tune(const Socket& socket);
/// "10.0.0.7:4433"
std::string peer_of(const Socket& socket);

/// Sends what goes at once and removes it from `bytes`; false when the connection is broken.
bool send_some(const Socket& socket, std::string& bytes);
enum class Received : std::uint8_t { nothing, some, closed };
/// Appends at most `limit` bytes.
Received receive_some(const Socket& socket, std::string& bytes, std::size_t limit);
/// Waits until the socket can be read or written; false at the deadline.
bool wait_readable(const Socket& socket, Deadline deadline);
bool wait_writable(const Socket& socket, Deadline deadline);

/// A frame: its length in four bytes, its parts: numbers of four bytes, strings with their length before them.
class FrameWriter {
 public:
  explicit FrameWriter(char kind) : bytes_(4, '\0') { bytes_ += kind; }
  FrameWriter& number(std::uint32_t value);
  FrameWriter& text(std::string_view value);
  std::string done();

 private:
  std::string bytes_;
};

class FrameReader {
 public:
  explicit FrameReader(std::string_view frame) : rest_(frame) {}
  /// Each throws Error when the frame ends before.
  char kind() { return take(1)[0]; }
  std::uint32_t number();
  std::string_view text();
  bool at_end() const { return rest_.empty(); }

 private:
  std::string_view take(std::size_t bytes);
  std::string_view rest_;
};

/// Moves a complete frame's content out of the buffer. Throws Error when it is empty or longer than the limit.
std::optional<std::string> take_frame(std::string& buffer, std::size_t limit);

}  // namespace dujiang::comm
