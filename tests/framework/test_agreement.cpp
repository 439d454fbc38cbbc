// What ranks agree on at a run's start, and how a failure of one becomes that of all.

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <filesystem>

#include "comm/host/thread_communicator.h"
#include "framework/train/agreement.h"
#include "tests/support/messages.h"

using namespace dujiang;
using namespace dujiang::train;
using test::contains;
using test::message_of;

namespace {

// What each of several ranks is told; they are threads.
std::vector<std::string> told_on(int ranks, const std::function<void(comm::Communicator&)>& body) {
  std::vector<std::string> told(static_cast<std::size_t>(ranks));
  comm::run_threads(ranks, [&](comm::Communicator& communicator) {
    told[static_cast<std::size_t>(communicator.rank())] = message_of([&] { body(communicator); });
  });
  return told;
}

std::vector<std::string> told_of(int ranks, const std::function<std::vector<Claim>(int rank)>& claims) {
  return told_on(
      ranks, [&](comm::Communicator& communicator) { require_agreement(claims(communicator.rank()), communicator); });
}

void check_all_are_told(const std::vector<std::string>& told, const std::string& expected) {
  for (const auto& message : told) BOOST_TEST(message == expected);
}

}  // namespace

BOOST_AUTO_TEST_CASE(ranks_that_agree_go_on) {
  const auto told = told_of(4, [](int rank) {
    return std::vector<Claim>{
        program_claim(),
        yaml_claim("configuration", "a: 1\nb: {c: [1, 2]}\n"),
        claim("tokenizer", {{"sha256", "abc"}}),
        {.what = "weights", .hash = {7, static_cast<std::uint64_t>(rank % 2)}, .group = rank % 2, .details = {}}};
  });
  check_all_are_told(told, "no UserError");
}

BOOST_AUTO_TEST_CASE(the_first_rank_with_another_configuration_is_named_with_the_keys) {
  const auto told = told_of(4, [](int rank) {
    return std::vector<Claim>{
        yaml_claim("configuration", rank < 2 ? "name: a\ntrain:\n  global_batch: 8\n  betas: [0.9, 0.95]\n  steps: 3\n"
                                             : "name: a\ntrain:\n  global_batch: 12\n  betas: [0.9, 0.99]\n  seed: " +
                                                   std::to_string(rank) + "\n  steps: 3\n")};
  });
  check_all_are_told(
      told,
      "rank 2 has another configuration than rank 0: train.betas: [0.9, 0.99] on rank 2, [0.9, 0.95] on "
      "rank 0; train.global_batch: 12 on rank 2, 8 on rank 0; train.seed: 2 on rank 2, absent on rank 0; "
      "give all ranks the same");
}

BOOST_AUTO_TEST_CASE(only_ranks_of_one_group_are_compared) {
  const std::uint64_t weights[] = {1, 2, 1, 3};  // of groups 0, 1, 0, 1
  const auto told = told_of(4, [&](int rank) {
    return std::vector<Claim>{claim("tokenizer", {{"sha256", "abc"}}),
                              {.what = "set of weights", .hash = {weights[rank], 0}, .group = rank % 2, .details = {}}};
  });
  check_all_are_told(told, "rank 3 has another set of weights than rank 1; give all ranks the same");
  // The upper half of the hash counts too.
  const auto upper = told_of(2, [&](int rank) {
    return std::vector<Claim>{
        {.what = "set of weights", .hash = {0, static_cast<std::uint64_t>(rank)}, .group = 0, .details = {}}};
  });
  check_all_are_told(upper, "rank 1 has another set of weights than rank 0; give all ranks the same");
}

BOOST_AUTO_TEST_CASE(programs_that_claim_other_things_are_told_so) {
  const auto told = told_of(3, [](int rank) {
    std::vector<Claim> claims = {claim("tokenizer", {}), claim("dataset", {})};
    if (rank == 1) claims.pop_back();
    return claims;
  });
  check_all_are_told(told, "rank 1 runs another program than rank 0; start the same on all ranks");
}

BOOST_AUTO_TEST_CASE(a_hash_tells_every_bit_and_the_order) {
  const float values[] = {1, 2, 3, 4};
  const auto tensor = [&](std::size_t first, std::size_t count) {
    return Tensor::of(std::span(values).subspan(first, count), {static_cast<std::int64_t>(count)});
  };
  const Tensor halves[] = {tensor(0, 2), tensor(2, 2)}, whole[] = {tensor(0, 4)}, turned[] = {halves[1], halves[0]};
  BOOST_TEST((hash_of(halves) == hash_of(whole)));
  BOOST_TEST((hash_of(turned) != hash_of(whole)));
  whole[0].data<float>()[3] = std::nextafter(4.0f, 5.0f);
  BOOST_TEST((hash_of(halves) != hash_of(whole)));
  BOOST_CHECK_THROW(hash_of(std::array{Tensor::zeros({2, 3}, Dtype::f32).transpose(0, 1)}), Error);
}

BOOST_AUTO_TEST_CASE(rounds_go_on_until_nobody_has_more_to_do) {
  std::vector<int> steps(3);
  comm::run_threads(3, [&](comm::Communicator& communicator) {
    int& mine = steps[static_cast<std::size_t>(communicator.rank())];
    in_rounds(communicator, [&] { return ++mine <= communicator.rank() * 2; });
  });
  BOOST_TEST(steps == (std::vector<int>{1, 3, 5}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_failure_of_one_rank_is_everybodys_with_its_number) {
  const auto told = told_on(4, [](comm::Communicator& communicator) {
    int round = 0;
    in_rounds(communicator, [&] {
      if (++round == 2 && communicator.rank() >= 2) fail_user("disk {} is full", communicator.rank());
      return true;  // without end, but for the failure
    });
  });
  check_all_are_told(told, "rank 2: disk 2 is full");
  const auto missing = told_on(2, [](comm::Communicator& communicator) {
    together(communicator, [&] {
      if (communicator.rank() == 1) std::filesystem::create_directory("/proc/none/such");
    });
  });
  for (const auto& message : missing) BOOST_TEST((message.starts_with("rank 1: ") && contains(message, "/proc/none")));
  // A fault that is not the user's stays one; a rank alone has no number.
  comm::run_threads(2, [](comm::Communicator& communicator) {
    try {
      together(communicator, [&] { DUJIANG_CHECK(communicator.rank() == 0, "broken"); });
    } catch (const UserError&) {
      throw;
    } catch (const Error& e) {
      DUJIANG_CHECK(std::string(e.what()) == "rank 1: broken", "told: {}", e.what());
      return;
    }
    fail("nothing was told");
  });
  const auto alone =
      told_on(1, [](comm::Communicator& communicator) { together(communicator, [] { fail_user("full"); }); });
  check_all_are_told(alone, "full");
}
