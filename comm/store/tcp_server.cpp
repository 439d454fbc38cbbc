#include "comm/store/tcp_server.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "comm/store/tcp_frames.h"
#include "framework/base/check.h"

namespace dujiang::comm {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t most_strangers = 128;
constexpr auto stranger_time = 5s;
constexpr std::size_t most_unsent = 1 << 20;  ///< a peer with more to read isn't listened to

// Takes as long for tokens that differ early as for those that differ late.
bool same_token(std::string_view a, std::string_view b) {
  unsigned difference = a.size() == b.size() ? 0 : 1;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference |= static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b.empty() ? 0 : b[i % b.size()]);
  }
  return difference == 0;
}

std::string gone_frame(int rank) {
  return FrameWriter(frames::gone).number(static_cast<std::uint32_t>(rank)).done();
}

}  // namespace

TcpServer::TcpServer(std::vector<Socket> listeners, Socket own, std::string token, int size)
    : listeners_(std::move(listeners)), token_(std::move(token)), size_(size) {
  Peer self;
  self.socket = std::move(own);
  self.name = peer_of(self.socket);
  self.state = State::there;
  self.rank = 0;
  there_[0] = self.name;
  peers_.push_back(std::move(self));
  thread_ = std::thread([this] { run(); });
}

TcpServer::~TcpServer() {
  if (!thread_.joinable()) return;
  at_once_ = true;
  waker_.wake();
  thread_.join();
}

void TcpServer::stop(std::chrono::milliseconds patience) {
  stop_at_ = Clock::now() + patience;
  stopping_ = true;
  waker_.wake();
  thread_.join();
}

bool TcpServer::all_left() const {
  return std::none_of(peers_.begin(), peers_.end(), [](const Peer& p) { return p.state == State::there; });
}

void TcpServer::run() {
  std::vector<pollfd> polled;
  while (!at_once_) {
    if (stopping_ && (all_left() || Clock::now() >= stop_at_.load())) return close_all(true);
    polled.assign(1, {waker_.fd(), POLLIN, 0});
    const bool accepting = Clock::now() >= rest_until_ && has_room();
    for (const auto& l : listeners_) polled.push_back({l.fd(), static_cast<short>(accepting ? POLLIN : 0), 0});
    const auto served = peers_.size();
    for (const auto& p : peers_) {
      const bool listening = !p.closing && p.out.size() < most_unsent;
      polled.push_back(
          {p.socket.fd(), static_cast<short>((listening ? POLLIN : 0) | (p.out.empty() ? 0 : POLLOUT)), 0});
    }
    // Strangers' time runs out, and so does the wait for farewells, without anything to read.
    const bool hurry = stopping_ || !accepting || std::any_of(peers_.begin(), peers_.end(), is_stranger);
    poll(polled.data(), polled.size(), hurry ? 50 : 1000);
    waker_.clear();

    auto peer = peers_.begin();
    for (std::size_t i = 0; i < served; ++i, ++peer) {
      const auto events = polled[1 + listeners_.size() + i].revents;
      if ((events & (POLLIN | POLLHUP | POLLERR)) != 0 && !peer->closing) read(*peer);
      if ((events & (POLLHUP | POLLERR)) != 0 && peer->closing) peer->broken = true;
    }
    const auto now = Clock::now();
    for (auto& p : peers_) {
      if (!send_some(p.socket, p.out)) p.broken = true;
      if (p.closing && p.out.empty()) p.broken = true;
      if (is_stranger(p) && now - p.since > stranger_time) p.broken = true;
    }
    drop_broken();
    for (std::size_t i = 0; accepting && i < listeners_.size(); ++i) {
      if (polled[1 + i].revents != 0) accept_strangers(listeners_[i]);
    }
  }
  close_all(false);
}

// When there are too many strangers, the oldest makes room once it has had time to say hello.
bool TcpServer::has_room() {
  if (static_cast<std::size_t>(std::count_if(peers_.begin(), peers_.end(), is_stranger)) < most_strangers) return true;
  const auto oldest = std::find_if(peers_.begin(), peers_.end(), is_stranger);
  if (Clock::now() - oldest->since < 1s) return false;
  peers_.erase(oldest);
  return true;
}

void TcpServer::accept_strangers(const Socket& listener) {
  while (has_room()) {
    Socket socket(accept4(listener.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!socket) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) rest_until_ = Clock::now() + 100ms;
      return;
    }
    tune(socket);
    Peer peer;
    peer.name = peer_of(socket);
    peer.socket = std::move(socket);
    peer.since = Clock::now();
    peers_.push_back(std::move(peer));
  }
}

void TcpServer::read(Peer& peer) {
  const bool stranger = is_stranger(peer);
  const auto limit = stranger ? 2 * frames::stranger_limit - peer.in.size() : 4 * frames::request_limit;
  const auto received = receive_some(peer.socket, peer.in, limit);
  if (received == Received::closed) peer.broken = true;
  try {
    while (auto frame = take_frame(peer.in, stranger ? frames::stranger_limit : frames::request_limit)) {
      handle(peer, *frame);
      if (peer.closing || peer.broken) break;
    }
  } catch (const Error&) {
    peer.broken = true;  // garbage
  }
}

void TcpServer::handle(Peer& peer, std::string_view frame) {
  switch (peer.state) {
    case State::stranger:
      return hello(peer, frame);
    case State::welcomed:
      DUJIANG_CHECK(frame == std::string_view(&frames::confirm, 1), "not a confirmation");
      return confirm(peer);
    case State::there:
    case State::left:
      return answer(peer, frame);
  }
}

void TcpServer::hello(Peer& peer, std::string_view frame) {
  FrameReader reader(frame);
  DUJIANG_CHECK(reader.kind() == frames::hello && reader.text() == frames::magic, "not a hello");
  const auto rank = reader.number(), size = reader.number();
  const bool trusted = same_token(reader.text(), token_);
  DUJIANG_CHECK(reader.at_end(), "a hello with more after it");
  if (!trusted) return refuse(peer, frames::wrong_token, "");
  if (size != static_cast<std::uint32_t>(size_)) {
    return refuse(peer, frames::refused,
                  fmt::format("rank {} came from {} for a job of {} ranks, but rank 0 serves one of {}: is WORLD_SIZE "
                              "the same for all?",
                              rank, peer.name, size, size_));
  }
  if (rank >= size) return refuse(peer, frames::refused, fmt::format("there is no rank {} of {}", rank, size));
  peer.rank = static_cast<int>(rank);
  if (there_.contains(peer.rank)) return refuse(peer, frames::refused, taken(peer.rank));
  peer.state = State::welcomed;
  peer.out += FrameWriter(frames::welcome).done();
}

void TcpServer::confirm(Peer& peer) {
  if (there_.contains(peer.rank)) return refuse(peer, frames::refused, taken(peer.rank));
  peer.state = State::there;
  there_[peer.rank] = peer.name;
  peer.out += FrameWriter(frames::ready).done();
  for (const int rank : gone_) peer.out += gone_frame(rank);
  for (auto v = values_.lower_bound("ended/"); v != values_.end() && v->first.starts_with("ended/"); ++v) {
    peer.out += FrameWriter(frames::ended).text(v->first).text(v->second).done();
  }
}

std::string TcpServer::taken(int rank) const {
  return fmt::format("rank {} is already there (from {}): is RANK set twice?", rank, there_.at(rank));
}

void TcpServer::refuse(Peer& peer, char kind, const std::string& why) {
  if (kind == frames::refused) values_["refused"] = why;  // for the message about the rank that never came
  peer.out += FrameWriter(kind).text(why).done();
  peer.closing = true;
}

void TcpServer::answer(Peer& peer, std::string_view frame) {
  FrameReader reader(frame);
  const char kind = reader.kind();
  FrameWriter reply(frames::answer);
  reply.number(reader.number());
  if (kind == frames::farewell) {
    peer.state = State::left;
  } else if (kind == frames::set) {
    const std::string key(reader.text()), value(reader.text());
    values_.insert_or_assign(key, value);
    if (key.starts_with("ended/")) tell_all(FrameWriter(frames::ended).text(key).text(value).done());
  } else if (kind == frames::get) {
    if (const auto v = values_.find(reader.text()); v != values_.end()) reply.text(v->first).text(v->second);
  } else if (kind == frames::list) {
    const auto prefix = reader.text();
    for (auto v = values_.lower_bound(prefix); v != values_.end() && v->first.starts_with(prefix); ++v) {
      reply.text(v->first).text(v->second);
    }
  } else if (kind == frames::remove) {
    if (const auto v = values_.find(reader.text()); v != values_.end()) values_.erase(v);
  } else {
    fail("not a request");
  }
  peer.out += reply.done();
}

void TcpServer::tell_all(const std::string& frame) {
  for (auto& p : peers_) {
    if (p.state == State::there) p.out += frame;
  }
}

void TcpServer::drop_broken() {
  std::vector<int> newly_gone;
  for (auto p = peers_.begin(); p != peers_.end();) {
    if (!p->broken) {
      ++p;
      continue;
    }
    if (p->state == State::there) newly_gone.push_back(p->rank);
    p = peers_.erase(p);
  }
  for (const int rank : newly_gone) {
    gone_.insert(rank);
    tell_all(gone_frame(rank));
  }
  if (newly_gone.empty()) return;
  for (auto& p : peers_) send_some(p.socket, p.out);
}

// Bytes that nobody read would turn the end of a connection into an error that overtakes what was sent, so the
// peers that are still there get a moment to read and close.
void TcpServer::close_all(bool in_order) {
  const auto until = Clock::now() + 500ms;
  if (in_order) tell_all(FrameWriter(frames::closing).done());
  std::string ignored;
  for (auto& p : peers_) {
    if (is_stranger(p)) continue;
    while (send_some(p.socket, p.out) && !p.out.empty() && wait_writable(p.socket, until)) {
    }
    shutdown(p.socket.fd(), SHUT_WR);
  }
  for (auto& p : peers_) {
    if (is_stranger(p)) continue;
    while (wait_readable(p.socket, until) && receive_some(p.socket, ignored, frames::request_limit) == Received::some) {
      ignored.clear();
    }
  }
}

}  // namespace dujiang::comm
