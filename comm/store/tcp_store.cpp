// The TCP store's client side, which rank 0 uses too, over a connection to the server in its own process.

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "comm/store/gone_ranks.h"
#include "comm/store/socket.h"
#include "comm/store/store.h"
#include "comm/store/tcp_frames.h"
#include "comm/store/tcp_server.h"
#include "framework/base/check.h"

namespace dujiang::comm {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Values = std::vector<std::pair<std::string, std::string>>;

constexpr auto request_time = 10s;
constexpr auto farewell_time = 5s;

class TcpStore : public Store {
 public:
  TcpStore(Socket socket, std::string received, std::string where, std::unique_ptr<TcpServer> server)
      : server_(std::move(server)), socket_(std::move(socket)), where_(std::move(where)), in_(std::move(received)) {
    reader_ = std::thread([this] { read(); });
  }

  ~TcpStore() override {
    const bool orderly = ends_in_order();
    if (orderly) {
      try {
        request(
            frames::farewell, [](FrameWriter&) {}, farewell_time);
      } catch (const std::exception&) {
        // The store is gone: nobody to part from.
      }
    }
    stop_ = true;
    waker_.wake();
    reader_.join();
    shutdown(socket_.fd(), SHUT_RDWR);
    if (server_ && orderly) server_->stop(farewell_time);
  }

  void set(std::string_view key, std::string_view value) override {
    check_value(key, value);
    request(frames::set, [&](FrameWriter& w) { w.text(key).text(value); });
  }

  std::optional<std::string> get(std::string_view key) override {
    check_key(key);
    auto found = key.starts_with("ended/") ? told(key) : request(frames::get, [&](FrameWriter& w) { w.text(key); });
    if (!found.empty() && found.front().first != key) found.clear();
    if (found.empty()) return std::nullopt;
    return std::move(found.front().second);
  }

  Values list(std::string_view prefix) override {
    if (!prefix.empty()) check_key(prefix);
    if (prefix.starts_with("ended/")) return told(prefix);
    return request(frames::list, [&](FrameWriter& w) { w.text(prefix); });
  }

  void remove(std::string_view key) override {
    check_key(key);
    request(frames::remove, [&](FrameWriter& w) { w.text(key); });
  }

  std::vector<int> gone() override { return gone_.all(); }
  void on_gone(std::function<void()> listener) override { gone_.listen(std::move(listener)); }

  std::string where() const override { return where_; }

 private:
  // What the server has told without being asked.
  Values told(std::string_view prefix) {
    const std::lock_guard lock(mutex_);
    Values found;
    for (auto v = ended_.lower_bound(prefix); v != ended_.end() && v->first.starts_with(prefix); ++v) {
      found.emplace_back(*v);
    }
    return found;
  }

  template <class Body>
  Values request(char kind, Body&& body, Clock::duration time = request_time) {
    const std::lock_guard one(request_mutex_);
    const auto deadline = Clock::now() + time;
    FrameWriter writer(kind);
    writer.number(++asked_);
    body(writer);
    send(writer.done(), deadline);
    std::unique_lock lock(mutex_);
    const bool answered = changed_.wait_until(lock, deadline, [&] { return answered_ == asked_ || !lost_.empty(); });
    if (answered_ == asked_) return std::move(answer_);
    fail("{}: {}", where_, answered ? lost_ : "no answer within 10 s; is the process of rank 0 stopped, or its host?");
  }

  void send(std::string bytes, Clock::time_point deadline) {
    {
      const std::lock_guard lock(mutex_);
      if (!lost_.empty()) fail("{}: {}", where_, lost_);
    }
    const auto whole = bytes.size();
    while (send_some(socket_, bytes) && !bytes.empty()) {
      if (wait_writable(socket_, deadline)) continue;
      // Half a request can't be taken back.
      if (bytes.size() < whole) shutdown(socket_.fd(), SHUT_RDWR);
      fail("{}: it takes no requests; is the process of rank 0 stopped, or its host?", where_);
    }
    // A connection that broke is seen by the reader, which knows why.
  }

  void read() {
    while (!stop_) {
      try {
        while (auto frame = take_frame(in_, frames::answer_limit)) handle(*frame);
      } catch (const Error& e) {
        return lose(e.what(), true);
      }
      if (closed_) return lose("rank 0, whose process keeps the store, has ended in order", false);
      std::array<pollfd, 2> polled{{{socket_.fd(), POLLIN, 0}, {waker_.fd(), POLLIN, 0}}};
      poll(polled.data(), polled.size(), -1);
      if (stop_) return;
      if (receive_some(socket_, in_, 1 << 20) == Received::closed) {
        return lose("the process of rank 0, which keeps the store, is gone", true);
      }
    }
  }

  void handle(std::string_view frame) {
    FrameReader reader(frame);
    const char kind = reader.kind();
    bool grown = false;
    {
      const std::lock_guard lock(mutex_);
      if (kind == frames::answer) {
        const auto number = reader.number();
        answer_.clear();
        while (!reader.at_end()) {
          std::string key(reader.text());
          answer_.emplace_back(std::move(key), reader.text());
        }
        answered_ = number;
      } else if (kind == frames::gone) {
        grown = gone_.add(static_cast<int>(reader.number()));
      } else if (kind == frames::ended) {
        std::string key(reader.text());
        ended_.insert_or_assign(std::move(key), std::string(reader.text()));
      } else if (kind == frames::closing) {
        closed_ = true;
      } else {
        fail("what came isn't the store's");
      }
    }
    changed_.notify_all();
    if (grown) gone_.tell();
  }

  void lose(const std::string& why, bool gone) {
    {
      const std::lock_guard lock(mutex_);
      lost_ = why;
      if (gone) gone_.add(0);
    }
    shutdown(socket_.fd(), SHUT_RDWR);
    changed_.notify_all();
    if (gone) gone_.tell();
  }

  // Destroyed after the connection, so that a store that ends with an error leaves at once.
  std::unique_ptr<TcpServer> server_;
  Socket socket_;
  Waker waker_;
  const std::string where_;
  std::atomic<bool> stop_{false};

  std::mutex request_mutex_;
  std::uint32_t asked_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint32_t answered_ = 0;
  Values answer_;
  GoneRanks gone_;
  std::map<std::string, std::string, std::less<>> ended_;
  std::string lost_;  ///< why there are no more answers

  // The reader's own.
  std::string in_;
  bool closed_ = false;
  std::thread reader_;
};

struct Attempt {
  Socket socket;         ///< when it worked
  std::string received;  ///< what came after the store was ready
  std::string why;       ///< when it didn't
  bool wrong_token = false, refused = false;
};

// The next frame, or an empty one and why not.
std::string next_frame(const Socket& socket, std::string& in, Clock::time_point deadline, std::string& why) {
  try {
    while (true) {
      if (auto frame = take_frame(in, frames::answer_limit)) return *frame;
      if (!wait_readable(socket, deadline)) {
        why = "it answers the connection, but says nothing";
        return {};
      }
      if (receive_some(socket, in, 4096) == Received::closed) {
        why = "it closed the connection";
        return {};
      }
    }
  } catch (const Error&) {
    why = "something else than a store answers there";
    return {};
  }
}

Attempt attempt(const Endpoint& endpoint, const std::string& token, int rank, int size, Clock::time_point deadline) {
  Attempt a;
  auto soon = std::min(deadline, Clock::now() + 2s);
  auto socket = connect_tcp(endpoint, soon, a.why);
  if (!socket) return a;
  auto out = FrameWriter(frames::hello)
                 .text(frames::magic)
                 .number(static_cast<std::uint32_t>(rank))
                 .number(static_cast<std::uint32_t>(size))
                 .text(token)
                 .done();
  soon = std::min(deadline, Clock::now() + 5s);
  std::string in;
  // Small enough for the buffer of a new connection.
  if (!send_some(socket, out) || !out.empty()) {
    a.why = "it closed the connection";
    return a;
  }
  auto frame = next_frame(socket, in, soon, a.why);
  if (!frame.empty() && frame[0] == frames::welcome) {
    out = FrameWriter(frames::confirm).done();
    send_some(socket, out);
    frame = next_frame(socket, in, std::max(deadline, soon), a.why);
  }
  if (frame.empty()) return a;
  if (frame[0] == frames::ready) {
    a.received = std::move(in);
    a.socket = std::move(socket);
  } else if (frame[0] == frames::wrong_token) {
    a.wrong_token = true;
    a.why = "the store there belongs to another job (its token differs)";
  } else if (frame[0] == frames::refused && frame.size() >= 5) {
    a.refused = true;
    a.why = frame.substr(5);
  } else {
    a.why = "something else than a store answers there";
  }
  return a;
}

std::string place(const std::string& host, int port) {
  const bool v6 = host.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", v6 ? "[" : "", host, v6 ? "]" : "", port);
}

void check_token(const std::string& token) {
  if (token.empty() || token.size() > 64) {
    fail_user("the job's token has {} bytes, expected 1 to 64 (DUJIANG_JOB_TOKEN)", token.size());
  }
}

}  // namespace

std::shared_ptr<Store> serve_tcp_store(StoreAddress& address, int size) {
  check_token(address.token);
  auto listeners = listen_tcp(address.hosts, address.port);
  auto [own, served] = socket_pair();
  auto server = std::make_unique<TcpServer>(std::move(listeners), std::move(served), address.token, size);
  return std::make_shared<TcpStore>(std::move(own), "", "tcp " + place(address.hosts.front(), address.port),
                                    std::move(server));
}

std::shared_ptr<Store> connect_tcp_store(const StoreAddress& address, int rank, int size, Deadline deadline) {
  check_token(address.token);
  const auto start = Clock::now();
  for (Clock::duration pause = 20ms;; pause = std::min<Clock::duration>(2 * pause, 1s)) {
    std::vector<std::string> outcomes;
    bool only_wrong_tokens = true;
    for (const auto& host : address.hosts) {
      std::string why;
      const auto endpoints = resolve(host, address.port, why);
      if (endpoints.empty()) {
        outcomes.push_back(fmt::format("{}: {}", place(host, address.port), why));
        only_wrong_tokens = false;
      }
      for (const auto& endpoint : endpoints) {
        auto a = attempt(endpoint, address.token, rank, size, deadline);
        if (a.socket) {
          return std::make_shared<TcpStore>(std::move(a.socket), std::move(a.received), "tcp " + endpoint.text,
                                            nullptr);
        }
        if (a.refused) fail_user("tcp {}: {}", endpoint.text, a.why);
        only_wrong_tokens = only_wrong_tokens && a.wrong_token;
        outcomes.push_back(fmt::format("{}: {}", endpoint.text, a.why));
      }
    }
    const auto now = Clock::now();
    if (now >= deadline || only_wrong_tokens) {
      fail_user("rank {} of {} can't reach the store of rank 0 (tried for {:.1f} s): {}. {}", rank, size,
                std::chrono::duration<double>(now - start).count(), fmt::join(outcomes, "; "),
                only_wrong_tokens ? "Does another job, or one that was left over, use this port? Is DUJIANG_JOB_TOKEN "
                                    "the same for all ranks?"
                                  : "Has rank 0 started, and are MASTER_ADDR and MASTER_PORT the same for all ranks?");
    }
    std::this_thread::sleep_until(std::min(deadline, now + pause));
  }
}

}  // namespace dujiang::comm
