#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <thread>

#include "comm/store/store.h"
#include "framework/base/check.h"
#include "tests/comm/store_job.h"
#include "tests/support/temp_folder.h"

using namespace dujiang;
using namespace dujiang::comm;
using namespace dujiang::comm::store_test;
using dujiang::test::says;

namespace {

// A connection that doesn't know the store's ways.
class Stranger {
 public:
  explicit Stranger(int port) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    BOOST_REQUIRE(connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  }
  ~Stranger() { close(fd_); }
  void say(std::string_view bytes) { send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL); }
  // Whether the store closes the connection within this time.
  bool dropped(std::chrono::milliseconds time) {
    std::array<char, 256> ignored;
    pollfd polled{fd_, POLLIN, 0};
    while (poll(&polled, 1, static_cast<int>(time.count())) > 0) {
      if (recv(fd_, ignored.data(), ignored.size(), 0) <= 0) return true;
    }
    return false;
  }

 private:
  int fd_;
};

const std::array<std::string, 2> kinds{"tcp", "file"};

}  // namespace

BOOST_DATA_TEST_CASE(values_are_set_listed_and_removed_by_every_rank, kinds) {
  Job job(sample, 3);
  const auto zero = job.serve(), one = job.join(1), two = job.join(2);
  BOOST_TEST(!two->get("a").has_value());
  one->set("a/%1 x", std::string("with\0zero", 9));
  zero->set("a/2", "");
  zero->set("b", std::string(65536, 'x'));
  BOOST_TEST((two->get("a/%1 x") == std::string("with\0zero", 9)));
  BOOST_TEST(two->list("a/").size() == 2U);
  BOOST_TEST(two->list("a/")[0].first == "a/%1 x");
  BOOST_TEST(two->list("c").empty());
  BOOST_TEST(two->get("b")->size() == 65536U);
  two->set("b", "new");
  BOOST_TEST(zero->get("b").value() == "new");
  two->remove("b");
  two->remove("never there");
  BOOST_TEST(!zero->get("b").has_value());
  BOOST_TEST(one->wait("a/2", "rank 0", in(0s)).empty());
  BOOST_CHECK_EXCEPTION(one->wait("c", "rank 2", in(20ms)), UserError,
                        says("rank 2 never gave \"c\" to " + job.kind()));
}

BOOST_DATA_TEST_CASE(big_values_and_keys_are_refused, kinds) {
  Job job(sample, 1);
  const auto store = job.serve();
  BOOST_CHECK_EXCEPTION(store->set("k", std::string(65537, 'x')), Error, says("\"k\"", "65537 bytes", "65536"));
  BOOST_CHECK_THROW(store->set(std::string(513, 'k'), ""), Error);
  BOOST_CHECK_THROW(store->set("", ""), Error);
  store->set("k", "goes on");
  BOOST_TEST(store->get("k").value() == "goes on");
}

BOOST_DATA_TEST_CASE(threads_of_a_rank_share_its_store, kinds) {
  Job job(sample, 2);
  const auto zero = job.serve(), one = job.join(1);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        const auto key = fmt::format("t{}", t);
        const auto value = fmt::format("{} {}", i, std::string(static_cast<std::size_t>(i) * 100, 'v'));
        (t % 2 == 0 ? zero : one)->set(key, value);
        if ((i % 2 == 0 ? zero : one)->get(key) != value) ++wrong;
      }
    });
  }
  for (auto& t : threads) t.join();
  BOOST_TEST(wrong == 0);
}

BOOST_DATA_TEST_CASE(an_exchange_gives_everyone_s_value_in_rank_order, kinds) {
  Job job(sample, 4);
  const auto zero = job.serve();
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int r = 0; r < 4; ++r) {
    threads.emplace_back([&, r] {
      const auto store = r == 0 ? zero : job.join(r);
      for (int round = 0; round < 5; ++round) {
        const auto name = fmt::format("round {}", round);
        const auto all = store->exchange(name, r, 4, fmt::format("{}.{}", round, r), in(60s));
        for (std::size_t k = 0; k < 4; ++k) wrong += all.at(k) == fmt::format("{}.{}", round, k) ? 0 : 1;
      }
    });
  }
  for (auto& t : threads) t.join();
  BOOST_TEST(wrong == 0);
}

BOOST_DATA_TEST_CASE(processes_exchange, kinds) {
  Job job(sample, 3);
  const auto zero = job.serve();
  Peer one(job, 1, "exchange"), two(job, 2, "exchange");
  const auto all = zero->exchange("test", 0, 3, "value of 0", in(60s));
  BOOST_TEST(all[2] == "value of 2");
  for (auto* peer : {&one, &two}) {
    for (int r = 0; r < 3; ++r) BOOST_TEST(peer->line() == fmt::format("value of {}", r));
    BOOST_TEST(peer->status() == 0);
  }
  BOOST_TEST(zero->gone().empty());
}

BOOST_DATA_TEST_CASE(a_rank_that_never_arrives_is_named, kinds) {
  Job job(sample, 4);
  const auto zero = job.serve(), one = job.join(1);
  std::string other_told;
  std::thread other([&] {
    try {
      one->exchange("start", 1, 4, "", in(300ms));
    } catch (const UserError& e) {
      other_told = e.what();
    }
  });
  const auto message = fmt::format("ranks 2, 3 of 4 never came to {} (\"start\") within", zero->where());
  BOOST_CHECK_EXCEPTION(zero->exchange("start", 0, 4, "", in(300ms)), UserError, says(message, "ranks 0, 1 did"));
  other.join();
  BOOST_TEST(other_told.find(message) != other_told.npos);
}

BOOST_DATA_TEST_CASE(an_exchange_ends_when_a_rank_is_gone, kinds) {
  Job job(sample, 2);
  const auto zero = job.serve();
  Peer one(job, 1, "stay");
  zero->wait("here/1", "rank 1", in(60s));
  std::thread killer([&] { one.kill(); });
  BOOST_CHECK_EXCEPTION(zero->exchange("start", 0, 2, "", in(60s)), UserError, says("rank 1 of 2 ended before giving"));
  killer.join();
}

BOOST_DATA_TEST_CASE(a_killed_process_is_gone, kinds) {
  Job job(sample, 3);
  const auto zero = job.serve(), two = job.join(2);
  std::atomic<int> heard{0};
  two->on_gone([&] { heard += two->gone() == std::vector{1} ? 1 : 100; });
  Peer one(job, 1, "stay");
  zero->wait("here/1", "rank 1", in(60s));
  BOOST_TEST(two->gone().empty());
  one.kill();
  BOOST_TEST(eventually([&] { return heard == 1 && zero->gone() == std::vector{1}; }));
  std::atomic<bool> late{false};
  two->on_gone([&] { late = true; });
  BOOST_TEST(late);
  two->on_gone(nullptr);
}

BOOST_DATA_TEST_CASE(a_process_that_said_farewell_is_not_gone, kinds) {
  Job job(sample, 3);
  const auto zero = job.serve();
  Peer one(job, 1, "leave"), two(job, 2, "stay");
  zero->wait("here/1", "rank 1", in(60s));
  zero->wait("here/2", "rank 2", in(60s));
  BOOST_TEST(one.status() == 0);
  two.kill();
  BOOST_TEST(eventually([&] { return !zero->gone().empty(); }));
  BOOST_TEST((zero->gone() == std::vector{2}));
}

BOOST_DATA_TEST_CASE(why_a_rank_ended_is_told_before_it_is_gone, kinds) {
  Job job(sample, 3);
  const auto zero = job.serve(), two = job.join(2);
  Peer one(job, 1, "error");
  BOOST_TEST(eventually([&] { return two->gone() == std::vector{1}; }));
  BOOST_TEST(two->get("ended/1").value() == "an error");
  BOOST_TEST(two->list("ended/").size() == 1U);
  BOOST_TEST(one.status() != 0);
}

BOOST_DATA_TEST_CASE(when_rank_0_is_killed_the_others_know, kinds) {
  Job job(sample, 2);
  Peer zero(job, 0, "stay");
  if (sample == "tcp") job.address.port = std::stoi(zero.line());
  const auto one = job.join(1);
  one->wait("here/0", "rank 0", in(60s));
  std::atomic<bool> heard{false};
  one->on_gone([&] { heard = true; });
  zero.kill();
  BOOST_TEST(eventually([&] { return heard.load() && one->gone() == std::vector{0}; }));
  if (sample == "tcp") BOOST_CHECK_EXCEPTION(one->get("k"), Error, says("rank 0", "is gone"));
  one->on_gone(nullptr);
}

BOOST_DATA_TEST_CASE(what_rank_0_ended_with_outlives_its_store, kinds) {
  Job job(sample, 2);
  auto zero = job.serve();
  const auto one = job.join(1);
  zero->set("ended/0", "its error");
  zero->abandon();
  zero.reset();
  if (sample == "tcp") BOOST_TEST(eventually([&] { return one->gone() == std::vector{0}; }));
  BOOST_TEST(one->get("ended/0").value() == "its error");
}

BOOST_DATA_TEST_CASE(rank_0_waits_for_the_others_farewell, kinds) {
  Job job(sample, 2);
  auto zero = job.serve();
  auto one = job.join(1);
  std::atomic<bool> ended{false};
  std::thread ending([&] {
    zero.reset();
    ended = true;
  });
  std::this_thread::sleep_for(200ms);
  BOOST_TEST(!ended);
  one->set("k", "still served");
  BOOST_TEST(one->get("k").value() == "still served");
  BOOST_TEST(one->gone().empty());
  one.reset();
  ending.join();
  if (sample == "file") BOOST_TEST(!std::filesystem::exists(job.folder()));
}

BOOST_AUTO_TEST_CASE(a_store_that_closes_in_order_is_not_gone) {
  Job job("tcp", 2);
  auto zero = job.serve();
  const auto one = job.join(1);
  zero.reset();  // after five seconds
  BOOST_CHECK_EXCEPTION(one->get("k"), Error, says("rank 0", "has ended in order"));
  BOOST_TEST(one->gone().empty());
}

BOOST_DATA_TEST_CASE(a_wrong_token_is_refused, kinds) {
  Job job(sample, 2);
  const auto zero = job.serve();
  const auto token = job.address.token;
  for (const auto& wrong :
       {token + "x", token.substr(1), std::string("t"), token.substr(0, 4) + "X" + token.substr(5)}) {
    job.address.token = wrong;
    BOOST_CHECK_EXCEPTION(job.join(1), UserError, says("another job", "its token differs", "DUJIANG_JOB_TOKEN"));
  }
  job.address.token = token;
  BOOST_TEST(job.join(1)->gone().empty());
}

BOOST_DATA_TEST_CASE(a_rank_can_be_there_once, kinds) {
  Job job(sample, 3);
  const auto zero = job.serve(), one = job.join(1);
  BOOST_CHECK_EXCEPTION(job.join(1), UserError, says("rank 1 is already there", "is RANK set twice?"));
  one->set("k", "undisturbed");
  BOOST_TEST(zero->get("k").value() == "undisturbed");
  BOOST_TEST(zero->gone().empty());
  BOOST_CHECK_EXCEPTION(zero->exchange("start", 0, 3, "", in(50ms)), UserError,
                        says("ranks 1, 2 of 3 never came", "refused: rank 1 is already there"));
}

BOOST_DATA_TEST_CASE(another_world_size_is_refused, kinds) {
  Job job(sample, 2);
  const auto zero = job.serve();
  BOOST_CHECK_EXCEPTION(job.join(2, 3), UserError, says("rank 2 came from", "3 ranks", "one of 2", "WORLD_SIZE"));
  BOOST_CHECK_EXCEPTION(job.join(1, 4), UserError, says("4 ranks", "one of 2"));
  BOOST_TEST(job.join(1)->gone().empty());
}

BOOST_AUTO_TEST_CASE(garbage_and_oversize_frames_are_dropped_without_disturbance) {
  Job job("tcp", 2);
  const auto zero = job.serve(), one = job.join(1);
  using namespace std::string_literals;
  for (const auto& bytes : {"GET / HTTP/1.1\r\nHost: x\r\n\r\n"s, "\xff\xff\xff\xff"s, "\0\0\0\0"s, "\x01\x01\0\0x"s,
                            std::string(100000, 'a'), "\x01\0\0\0S"s, "\x01\0\0\0H"s,
                            "\x0d\0\0\0H\xff\xff\xff\xff"
                            "dujiang "s}) {
    Stranger stranger(job.address.port);
    stranger.say(bytes);
    BOOST_TEST(stranger.dropped(30s), bytes.substr(0, 8));
    one->set("k", "v");
    BOOST_TEST(zero->get("k").value() == "v");
  }
  BOOST_TEST(zero->gone().empty());
}

BOOST_AUTO_TEST_CASE(silent_and_half_said_connections_are_dropped_without_disturbance) {
  Job job("tcp", 3);
  const auto zero = job.serve(), one = job.join(1);
  const auto start = std::chrono::steady_clock::now();
  Stranger silent(job.address.port), half(job.address.port);
  half.say(std::string_view("\x40\0\0\0H", 5));
  { const Stranger leaves_at_once(job.address.port); }
  const auto two = job.join(2);
  BOOST_TEST(two->exchange("x", 0, 1, "", in(60s)).size() == 1U);
  BOOST_TEST(silent.dropped(30s));
  BOOST_TEST(half.dropped(30s));
  BOOST_TEST((std::chrono::steady_clock::now() - start >= 4s));
  BOOST_TEST(zero->gone().empty());
}

BOOST_AUTO_TEST_CASE(many_strangers_do_not_keep_a_rank_out) {
  Job job("tcp", 2);
  const auto zero = job.serve();
  std::vector<std::unique_ptr<Stranger>> strangers;
  for (int i = 0; i < 300; ++i) strangers.push_back(std::make_unique<Stranger>(job.address.port));
  const auto one = job.join(1);
  one->set("k", "v");
  BOOST_TEST(zero->get("k").value() == "v");
}

BOOST_AUTO_TEST_CASE(a_port_in_use_is_named) {
  Job job("tcp", 1);
  const auto store = job.serve();
  BOOST_CHECK_EXCEPTION(job.serve(), UserError,
                        says(fmt::format("port {} of 127.0.0.1 is in use", job.address.port), "MASTER_PORT"));
}

BOOST_AUTO_TEST_CASE(an_address_of_another_machine_cannot_be_served) {
  StoreAddress address{{"192.0.2.1"}, 0, "t"};
  BOOST_CHECK_EXCEPTION(serve_tcp_store(address, 1), UserError, says("192.0.2.1", "MASTER_ADDR", "machine of rank 0"));
  address.hosts = {"no such host.invalid"};
  BOOST_CHECK_EXCEPTION(serve_tcp_store(address, 1), UserError, says("no such host.invalid"));
}

BOOST_AUTO_TEST_CASE(every_address_is_tried_and_named) {
  Job job("tcp", 2);
  const auto zero = job.serve();
  const Job elsewhere("tcp", 2);
  auto address = job.address;
  address.hosts = {"127.0.0.2", "127.0.0.1"};
  BOOST_TEST(connect_tcp_store(address, 1, 2, in(60s))->where() == zero->where());
  address.hosts = {"127.0.0.2", "127.0.0.3"};
  BOOST_CHECK_EXCEPTION(connect_tcp_store(address, 1, 2, in(100ms)), UserError,
                        says("127.0.0.2", "127.0.0.3", "Connection refused", "Has rank 0 started"));
}

BOOST_AUTO_TEST_CASE(ipv6_and_several_addresses_serve_one_port) {
  StoreAddress address{{"::1"}, 0, "t"};
  std::shared_ptr<Store> zero;
  try {
    address.hosts = {"127.0.0.1", "::1"};
    zero = serve_tcp_store(address, 3);
  } catch (const UserError& e) {
    BOOST_TEST_MESSAGE("no IPv6 here: " << e.what());
    return;
  }
  address.hosts = {"::1"};
  const auto one = connect_tcp_store(address, 1, 3, in(60s));
  address.hosts = {"127.0.0.1"};
  const auto two = connect_tcp_store(address, 2, 3, in(60s));
  BOOST_TEST(one->where() == fmt::format("tcp [::1]:{}", address.port));
  one->set("k", "v");
  BOOST_TEST(two->get("k").value() == "v");
}

BOOST_AUTO_TEST_CASE(something_else_than_a_store_is_told) {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t bytes = sizeof a;
  BOOST_REQUIRE(bind(listener, reinterpret_cast<sockaddr*>(&a), bytes) == 0 && listen(listener, 8) == 0);
  getsockname(listener, reinterpret_cast<sockaddr*>(&a), &bytes);
  const StoreAddress address{{"127.0.0.1"}, ntohs(a.sin_port), "t"};
  BOOST_CHECK_EXCEPTION(connect_tcp_store(address, 1, 2, in(200ms)), UserError, says("says nothing"));
  close(listener);
}

BOOST_AUTO_TEST_CASE(a_rank_waits_for_a_late_rank_0) {
  Job job("tcp", 2);
  job.serve();  // a port that was free just now
  std::shared_ptr<Store> one;
  std::thread early([&, address = job.address] { one = connect_tcp_store(address, 1, 2, in(60s)); });
  std::this_thread::sleep_for(300ms);
  const auto zero = job.serve();
  early.join();
  one->set("k", "v");
  BOOST_TEST(zero->get("k").value() == "v");
  one.reset();
}
