// The watchdog's lines: what the ranks published, and what one of them says of it.

#include <boost/test/unit_test.hpp>

#include "comm/watch/watchdog_report.h"

using namespace dujiang;
using namespace dujiang::comm;

namespace {

constexpr std::int64_t now = 1'000'000;  // of every rank's clock

Signature all_reduce(std::int64_t count) {
  return {Op::all_reduce, Dtype::f32, Reduce::sum, 0, count};
}

SeenOperation pending(std::uint64_t number, Signature signature, std::string where, double age) {
  return {number, signature, std::move(where), false, now - static_cast<std::int64_t>(age * 1000)};
}

SeenOperation finished(std::uint64_t number, Signature signature, std::string where, double age) {
  auto operation = pending(number, signature, std::move(where), age);
  operation.finished = true;
  return operation;
}

SeenCommunicator world(std::uint64_t sequence, std::vector<SeenOperation> operations) {
  return {"world", {0, 1, 2, 3}, sequence, false, std::move(operations)};
}

Peer peer(std::vector<SeenCommunicator> communicators) {
  Peer p;
  p.publication = Publication{now, std::move(communicators)};
  p.clock_ms = now;
  return p;
}

const SeenOperation wanted = pending(17, all_reduce(1024), "a.cpp:48", 120);
const Peer inside = peer({world(17, {wanted})});
const Peer late = peer({world(16, {finished(16, {Op::all_gather, Dtype::f32, Reduce::sum, 0, 8}, "x.cpp:9", 119)})});

std::string line(Peer rank_1, Peer rank_2, Peer rank_3) {
  const JobView job{0, {inside, std::move(rank_1), std::move(rank_2), std::move(rank_3)}, {}};
  return describe_wait(job, "world", wanted, 120);
}

const std::string head =
    "dujiang: rank 0 of 4: all_reduce sum of 1024 x f32 (communicator world, operation 17, called from a.cpp:48) has "
    "waited 120 s ";

}  // namespace

BOOST_AUTO_TEST_CASE(a_publication_comes_back_as_it_was) {
  const Publication published{
      123456,
      {world(17, {finished(16, {Op::broadcast, Dtype::bf16, Reduce::sum, 3, 1LL << 40}, "dir with space/x.cpp:9", 1),
                  wanted, pending(0, {Op::batch_send_recv, Dtype::u8, Reduce::sum, 0, 0}, "y.cpp:1", 0)}),
       {"world/0.1", {0, 2, 3, 9}, 0, true, {}}}};
  const auto back = decode(encode(published, 60'000));
  BOOST_REQUIRE(back.has_value());
  BOOST_TEST((*back == published));
  BOOST_TEST((decode_operation(encode(wanted)) == wanted));
}

BOOST_AUTO_TEST_CASE(what_is_no_publication_is_refused) {
  const std::string good = encode(*inside.publication, 60'000);
  for (const std::string text :
       {"", "x", "flight", "flight x", "flight 1\nopen", "flight 1\npending 1 2 3", "flight 1\nopen world 1 0-",
        "flight 1\nopen world 1 3-1", "flight 1\nopen world 1 0-3\npending 1 2 99 0 0 0 4 a.cpp:1",
        "flight 1\nopen world 1 0-3\npending 1 2 0 99 0 0 4 a.cpp:1"}) {
    BOOST_TEST_CONTEXT(text) {
      BOOST_TEST(!decode(text).has_value());
    }
  }
  for (std::size_t n = 0; n < good.size(); ++n) (void)decode(good.substr(0, n));  // never reads beyond its end
}

BOOST_AUTO_TEST_CASE(a_publication_keeps_to_its_limit_and_drops_what_is_oldest) {
  Publication published{now, {}};
  for (int c = 0; c < 100; ++c) {
    std::vector<SeenOperation> operations;
    for (std::uint64_t n = 1; n <= 16; ++n) operations.push_back(finished(n, all_reduce(1), std::string(100, 'x'), 1));
    operations.push_back(pending(17, all_reduce(2), "y", 1));
    published.communicators.push_back({"world/" + std::to_string(c), {0, 1}, 17, false, operations});
  }
  const auto text = encode(published, 20'000);
  BOOST_TEST(text.size() <= 20'000U);
  const auto back = decode(text);
  BOOST_REQUIRE(back.has_value());
  BOOST_TEST(back->communicators.size() > 50U);
  BOOST_TEST(back->communicators[0].find(17) != nullptr);
  BOOST_TEST(back->communicators[0].find(16) != nullptr);
  BOOST_TEST(back->communicators[0].find(1) == nullptr);
}

BOOST_AUTO_TEST_CASE(places_are_relative_to_the_source_tree) {
  BOOST_TEST(place_of(std::source_location::current()).starts_with("tests/comm/test_watchdog_report.cpp:"));
}

BOOST_AUTO_TEST_CASE(a_late_rank_is_named_with_what_it_did_last) {
  BOOST_TEST(line(inside, late, inside) ==
             head +
                 "for rank 2, which finished operation 16 (all_gather of 8 x f32, called from x.cpp:9) 119 s ago and "
                 "has requested nothing since; its process is alive");
  BOOST_TEST(line(inside, peer({world(0, {})}), inside) ==
             head + "for rank 2, which requested nothing yet; its process is alive");
}

BOOST_AUTO_TEST_CASE(several_late_ranks_are_all_named) {
  BOOST_TEST(line(late, late, inside).ends_with("its process is alive (rank 2 is missing too)"));
  BOOST_TEST(line(late, late, late).ends_with("its process is alive (ranks 2 and 3 are missing too)"));
}

BOOST_AUTO_TEST_CASE(a_stopped_rank_is_named_before_a_late_one) {
  Peer stopped = inside;
  stopped.silent = 118;
  BOOST_TEST(line(late, inside, stopped) ==
             head +
                 "for rank 3, which has shown no sign of life for 118 s (stopped, or its host is unreachable); it "
                 "was last seen in all_reduce sum of 1024 x f32 (communicator world, operation 17, called from "
                 "a.cpp:48) (rank 1 is missing too)");
}

BOOST_AUTO_TEST_CASE(a_rank_in_another_operation_is_named_with_it) {
  const Peer other = peer({world(17, {pending(17, {Op::broadcast, Dtype::f32, Reduce::sum, 0, 4}, "b.cpp:5", 119)})});
  BOOST_TEST(line(other, inside, inside) ==
             head +
                 "for rank 1, which requested broadcast of 4 x f32 from rank 0 (called from b.cpp:5) as operation "
                 "17 instead");
}

BOOST_AUTO_TEST_CASE(any_difference_of_the_signature_is_a_mismatch) {
  for (const Signature s : {Signature{Op::all_reduce, Dtype::f32, Reduce::sum, 0, 1025},
                            Signature{Op::all_reduce, Dtype::bf16, Reduce::sum, 0, 1024},
                            Signature{Op::all_reduce, Dtype::f32, Reduce::max, 0, 1024},
                            Signature{Op::reduce, Dtype::f32, Reduce::sum, 0, 1024}}) {
    const auto text = line(peer({world(17, {pending(17, s, "b.cpp:5", 1)})}), inside, inside);
    BOOST_TEST(text.find("for rank 1, which requested " + s.str()) != std::string::npos);
  }
}

BOOST_AUTO_TEST_CASE(the_chain_of_waits_is_followed_to_its_end) {
  const SeenOperation part = pending(4, {Op::barrier, Dtype::f32, Reduce::sum, 0, 0}, "c.cpp:7", 118);
  const Peer waits = peer({world(16, {}), {"world/0.1", {1, 3}, 4, false, {part}}});
  const Peer idle = peer({world(16, {}), {"world/0.1", {1, 3}, 3, false, {}}});
  const auto text = line(waits, inside, idle);
  BOOST_TEST(text == head + "for rank 3, which requested nothing yet; its process is alive (rank 1 is missing too)");
  const JobView job{0, {inside, waits, inside, peer({world(17, {wanted}), {"world/0.1", {1, 3}, 3, false, {}}})}, {}};
  BOOST_TEST(describe_wait(job, "world", wanted, 120) ==
             head +
                 "for rank 1, which has been in barrier (communicator world/0.1, operation 4, called from c.cpp:7) "
                 "for 118 s instead, waiting for rank 3, which has been in all_reduce sum of 1024 x f32 "
                 "(communicator world, operation 17, called from a.cpp:48) for 120 s instead, waiting for rank 1, "
                 "which has been in barrier (communicator world/0.1, operation 4, called from c.cpp:7) for 118 s "
                 "instead");
}

BOOST_AUTO_TEST_CASE(when_all_have_requested_it_the_transfer_is_at_fault) {
  const Peer done = peer({world(17, {finished(17, all_reduce(1024), "a.cpp:48", 119)})});
  BOOST_TEST(line(inside, done, inside) == head +
                                               "though every rank has requested it; ranks 1 and 3 are in it too; "
                                               "rank 2 has finished it; the transfer doesn't progress");
}

BOOST_AUTO_TEST_CASE(a_store_that_does_not_answer_is_rank_0) {
  const JobView job{1, {Peer(), inside, Peer(), Peer()}, "tcp 10.0.0.1:29500"};
  BOOST_TEST(
      describe_wait(job, "world", wanted, 5) ==
      "dujiang: rank 1 of 4: all_reduce sum of 1024 x f32 (communicator world, operation 17, called from "
      "a.cpp:48) has waited 5.0 s for rank 0, whose process doesn't answer (stopped, or its host is unreachable; "
      "it holds the job's store, tcp 10.0.0.1:29500)");
}

BOOST_AUTO_TEST_CASE(a_rank_whose_program_has_ended_leaves_the_others_alone) {
  Peer ended = late;
  ended.ended = true;
  const JobView job{0, {inside, inside, ended, inside}, {}};
  BOOST_TEST(left_alone(job, "world", wanted));
  BOOST_TEST(describe_wait(job, "world", wanted, 1).ends_with("119 s ago; its program has ended"));
  BOOST_TEST(line(late, ended, inside).ends_with("119 s ago; its program has ended (rank 1 is missing too)"));
  Peer done = inside;
  done.ended = true;
  BOOST_TEST(!left_alone({0, {inside, inside, done, inside}, {}}, "world", wanted));
  BOOST_TEST(!left_alone({0, {inside, inside, late, inside}, {}}, "world", wanted));
}

BOOST_AUTO_TEST_CASE(a_death_is_told_with_what_this_rank_was_doing) {
  BOOST_TEST(describe_death({0, {inside, late, late, late}, {}}, {2}) ==
             "dujiang: rank 0 of 4: rank 2's process is gone (no farewell) while this rank was in all_reduce sum of "
             "1024 x f32 (communicator world, operation 17, called from a.cpp:48) for 120 s");
  BOOST_TEST(describe_death({1, {inside, late, late, late}, {}}, {0, 3}) ==
             "dujiang: rank 1 of 4: the processes of ranks 0 and 3 are gone (no farewell) while this rank computed; "
             "its last operation was all_gather of 8 x f32 (communicator world, operation 16, called from x.cpp:9), "
             "finished 119 s ago");
}
