#pragma once
// Rank 0's side of the TCP store: one thread that serves every rank over non-blocking sockets.
//
// A peer says hello (magic, rank, size, token); the server welcomes it; the peer confirms and is there from then on, so
// that one that gave up in between leaves no trace. Who hasn't said hello within five seconds, or says anything
// else, is dropped. See tcp_frames.h.

#include <atomic>
#include <chrono>
#include <list>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "comm/store/socket.h"

namespace dujiang::comm {

class TcpServer {
 public:
  /// `own` is the connection of rank 0 itself, which needs no hello.
  TcpServer(std::vector<Socket> listeners, Socket own, std::string token, int size);
  /// Without stop(): ends at once.
  ~TcpServer();
  /// Waits for the other ranks' farewell until `patience` is over, then tells those left that the store closes.
  void stop(std::chrono::milliseconds patience);

 private:
  using Clock = std::chrono::steady_clock;
  enum class State : std::uint8_t { stranger, welcomed, there, left };

  struct Peer {
    Socket socket;
    std::string name;
    State state = State::stranger;
    int rank = -1;
    Clock::time_point since;
    std::string in, out;
    bool closing = false;  ///< when `out` has been sent
    bool broken = false;
  };

  void run();
  void accept_strangers(const Socket& listener);
  bool has_room();
  void read(Peer& peer);
  void handle(Peer& peer, std::string_view frame);
  void hello(Peer& peer, std::string_view frame);
  void confirm(Peer& peer);
  void answer(Peer& peer, std::string_view frame);
  void refuse(Peer& peer, char kind, const std::string& why);
  std::string taken(int rank) const;
  void tell_all(const std::string& frame);
  void drop_broken();
  bool all_left() const;
  void close_all(bool in_order);
  static bool is_stranger(const Peer& peer) { return peer.state < State::there; }

  const std::vector<Socket> listeners_;
  const std::string token_;
  const int size_;
  std::list<Peer> peers_;
  std::map<std::string, std::string, std::less<>> values_;
  std::map<int, std::string> there_;  ///< who has come, and from where
  std::set<int> gone_;
  Clock::time_point rest_until_{};  ///< no accept() before, as there are no descriptors left
  std::atomic<bool> stopping_{false}, at_once_{false};
  std::atomic<Clock::time_point> stop_at_{};
  Waker waker_;
  std::thread thread_;
};

}  // namespace dujiang::comm
