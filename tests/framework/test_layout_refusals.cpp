// Layouts that can't be are refused before a step, with what to change.

#include <boost/test/unit_test.hpp>

#include "comm/host/thread_communicator.h"
#include "tests/framework/layout_runs.h"

using namespace dujiang;
using namespace dujiang::test;

namespace {

/// Says what it can do, and does nothing.
class Standin final : public comm::Communicator {
 public:
  Standin(int ranks, bool tree_order, bool reduce_scatter)
      : Communicator({"standin", Device{}, tree_order}, {0, ranks, 0, ranks},
                     std::make_shared<comm::Flight>("world", std::vector<int>(static_cast<std::size_t>(ranks)), 0)),
        reduce_scatter_(reduce_scatter) {}

 private:
  comm::Work do_start(comm::Request, Stream&) override { fail("a collective before the refusal"); }
  bool do_supports(comm::Op op, Dtype, comm::Reduce) const override {
    return op != comm::Op::reduce_scatter || reduce_scatter_;
  }
  std::shared_ptr<void> do_allocate(std::size_t) override { fail("memory taken before the refusal"); }
  std::unique_ptr<comm::Communicator> do_split(int, int) override { fail("a split before the refusal"); }
  bool reduce_scatter_;
};

struct Try {
  models::ModelConfig model = tiny_model(50);
  train::ParallelSection parallel = {};
  bool strict = false;
  std::int64_t batch = 8;
};

std::string refusal(const Try& t, comm::Communicator& ranks) {
  int status = 0;
  std::string message = "<taken>";
  try {
    models::Qwen3 model(t.model);
    const train::TrainStep step(model, ranks,
                                {.optimizer = adamw(), .parallel = t.parallel, .strict = t.strict, .strict_ways = 4});
    step.share_of(t.batch);
  } catch (const Error& e) {
    message = e.what();
    status = e.exit_status();
  }
  BOOST_TEST(status == (message == "<taken>" ? 0 : 2), message);
  return message;
}

/// What every one of so many ranks is told.
std::string refusal(const Try& t, int ranks) {
  std::vector<std::string> told(static_cast<std::size_t>(ranks));
  comm::run_threads(
      ranks, [&](comm::Communicator& world) { told[static_cast<std::size_t>(world.rank())] = refusal(t, world); });
  for (const auto& message : told) BOOST_TEST(message == told.front());
  return told.front();
}

}  // namespace

BOOST_AUTO_TEST_CASE(ranks_that_do_not_divide_a_layer_are_told_which_numbers_do) {
  auto config = tiny_model(50);
  config.num_attention_heads = 6;
  BOOST_TEST(refusal({config, {.tensor = 4}}, 4) ==
             "parallel.tensor: 4 ranks can't share model.num_attention_heads 6; it must be one of 1, 2, 3, 6");
  config = tiny_model(50);
  config.intermediate_size = 45;
  BOOST_TEST(refusal({config, {.tensor = 2}}, 2) ==
             "parallel.tensor: 2 ranks can't share model.intermediate_size 45; it must be one of 1, 3, 5, 9, 15, 45");
  config.num_attention_heads = 6;
  config.num_key_value_heads = 3;
  const auto all = refusal({config, {.tensor = 2}}, 2);  // every fault at once
  BOOST_TEST(data::contains(all, "model.num_key_value_heads 3; it must be one of 1, 3"), all);
  BOOST_TEST(data::contains(all, "model.intermediate_size 45"), all);
}

BOOST_AUTO_TEST_CASE(an_axis_that_does_not_divide_the_ranks_is_told_with_those_that_do) {
  BOOST_TEST(refusal({.parallel = {.tensor = 4}}, 6) ==
             "parallel.tensor: 4 doesn't divide 6 ranks; possible with 6 ranks: 1, 2, 3, 6; or start a multiple of 4 "
             "ranks");
  BOOST_TEST(data::contains(refusal({.parallel = {.tensor = 2}}, 1), "possible with 1 ranks: 1; or start"));
}

BOOST_AUTO_TEST_CASE(a_batch_that_ranks_do_not_divide_is_refused) {
  BOOST_TEST(refusal({.batch = 7}, 2) ==
             "train.global_batch: 7 sequences cannot be shared by 2 ranks along dp; choose a multiple of 2 or start "
             "another number of ranks");
  BOOST_TEST(data::contains(refusal({.parallel = {.tensor = 2}, .batch = 7}, 4), "by 2 ranks along dp"));
  BOOST_TEST(refusal({.parallel = {.tensor = 4}, .batch = 7}, 4) == "<taken>");
}

BOOST_AUTO_TEST_CASE(zero_is_refused_where_the_transport_has_no_reduce_scatter) {
  for (const std::int64_t zero : {1, 2, 3}) {
    Standin ranks(2, true, false);
    BOOST_TEST(
        refusal({.parallel = {.zero = zero}}, ranks) ==
        fmt::format("parallel.zero: {} needs reduce_scatter of f32, which transport standin doesn't have; choose "
                    "parallel.zero: 0 or another comm.transport",
                    zero));
  }
  Standin alone(1, true, false);  // one rank has nothing to scatter
  BOOST_TEST(refusal({.parallel = {.zero = 3}}, alone) == "<taken>");
}

BOOST_AUTO_TEST_CASE(strict_mode_is_refused_where_the_order_of_sums_is_not_known) {
  for (const std::int64_t tensor : {1, 2}) {
    Standin ranks(2, false, true);
    BOOST_TEST(
        refusal({.parallel = {.tensor = tensor}, .strict = true}, ranks) ==
        "train.strict: transport standin promises no order of sums; choose comm.transport: mpi, or train.strict: "
        "false");
  }
}

BOOST_AUTO_TEST_CASE(strict_mode_is_refused_where_it_could_not_hold) {
  BOOST_TEST(refusal({.parallel = {.tensor = 2, .sequence = true}, .strict = true}, 2) ==
             "parallel.sequence: true isn't possible with train.strict: true; choose one of them");
  BOOST_TEST(refusal({.strict = true, .batch = 12}, 2) ==
             "train.global_batch: 12: train.strict adds gradients up in a binary tree: expected a power of two");
  auto config = tiny_model(50);
  config.num_attention_heads = 6;
  config.num_key_value_heads = 3;
  BOOST_TEST(data::contains(refusal({config, {.tensor = 3}, true}, 3),
                            "parallel.tensor: 3 isn't possible with train.strict: expected a power of two up to "
                            "train.strict_ways 4"));
  config = tiny_model(50);
  config.num_attention_heads = 8;
  config.intermediate_size = 64;
  BOOST_TEST(data::contains(refusal({config, {.tensor = 8}, true}, 8), "up to train.strict_ways 4"));
}
