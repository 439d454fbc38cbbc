// The profile of training steps, and what a steady step asks of the system.

#include "framework/base/op_profile.h"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>
#include <numeric>

#include "comm/host/self_communicator.h"
#include "framework/tensor/tensor.h"
#include "framework/train/bench_train.h"
#include "ops/matmul.h"

using namespace dujiang;

namespace {

constexpr std::int64_t sequences = 3, length = 64, layers = 2, heads = 4, head_dim = 16, hidden = 48;

train::Preset tiny() {
  train::Preset p{.name = "tiny", .model = {}, .sequence = length, .micro_batch = sequences};
  p.model.hidden_size = hidden;
  p.model.num_hidden_layers = layers;
  p.model.num_attention_heads = heads;
  p.model.num_key_value_heads = 2;
  p.model.head_dim = head_dim;
  p.model.intermediate_size = 80;
  p.model.vocab_size = 300;
  p.model.max_position_embeddings = length;
  p.model.tie_word_embeddings = true;
  return p;
}

train::BenchTrainResult run(OpProfile* profile, int warmup = 1, train::Precision precision = train::Precision::bf16) {
  const auto alone = comm::make_self_communicator();
  train::BenchTrainOptions options;
  options.warmup = warmup;
  options.steps = 4;
  options.profile = profile;
  options.step.precision = precision;
  return train::bench_train(tiny(), options, *alone);
}

template <class Wanted>
double flops_of(const OpProfile& profile, Wanted&& wanted) {
  double sum = 0;
  for (const auto& row : profile.rows())
    if (wanted(row)) sum += row.flops;
  return sum;
}

double calls(const OpProfile& profile, const std::string& section, const std::string& op) {
  double sum = 0;
  for (const auto& row : profile.rows())
    if (row.section == section && row.op == op) sum += static_cast<double>(row.calls);
  return sum;
}

const OpProfile::Section& section(const OpProfile& profile, const std::string& name) {
  for (const auto& s : profile.sections())
    if (s.name == name) return s;
  fail("no section {}", name);
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_steps_flops_are_those_of_the_formula) {
  OpProfile profile;
  const auto result = run(&profile);
  const double steps = 4, tokens = sequences * length;
  // Every weight of a matrix takes part in three products a token; a norm's weight in none.
  const double norms = (2 * layers + 1) * hidden + 2 * layers * head_dim;
  const auto attention = [](const OpProfile::Row& row) { return row.attention; };
  const auto product = [](const OpProfile::Row& row) { return !row.attention; };
  BOOST_TEST(flops_of(profile, product) == steps * 6 * tokens * (static_cast<double>(result.parameters) - norms));
  // Two products forward, five backward, of the pairs that see each other.
  const double pairs = sequences * length * (length + 1) / 2.0;
  BOOST_TEST(flops_of(profile, attention) == steps * 7 * 2 * pairs * heads * head_dim * layers);
}

BOOST_AUTO_TEST_CASE(calls_stand_under_the_section_that_made_them) {
  OpProfile profile;
  run(&profile);
  const double steps = 4;
  BOOST_TEST(calls(profile, "forward", "attention") == steps * layers);
  BOOST_TEST(calls(profile, "forward", "swiglu") == steps * layers);
  BOOST_TEST(calls(profile, "backward", "swiglu_backward") == steps * layers);
  BOOST_TEST(calls(profile, "backward", "attention_backward") == steps * layers);
  BOOST_TEST(calls(profile, "optimizer", "adamw") > 0);
  BOOST_TEST(calls(profile, "backward", "attention") == 0);
  BOOST_TEST(section(profile, "step").calls == 4U);
  for (const auto& row : profile.rows())
    if (row.op == "matmul" && row.section == "backward") BOOST_TEST(!row.shape.starts_with("a·bᵀ "));
}

BOOST_AUTO_TEST_CASE(ops_and_the_time_in_no_op_add_up_to_the_step) {
  OpProfile profile;
  run(&profile);
  double sum = 0;
  for (const auto& row : profile.rows()) sum += row.seconds;
  for (const auto& s : profile.sections()) {
    BOOST_TEST(s.rest >= 0);
    sum += s.rest;
  }
  // Rounding of a few hundred additions.
  BOOST_TEST(sum == section(profile, "step").seconds, boost::test_tools::tolerance(1e-9));
}

BOOST_AUTO_TEST_CASE(the_trace_has_every_call_inside_of_its_section) {
  OpProfile profile;
  run(&profile);
  const auto events = nlohmann::json::parse(profile.trace(5).str());
  std::vector<nlohmann::json> ops, sections;
  for (const auto& e : events) {
    if (e.at("ph") != "X") continue;
    BOOST_TEST(e.at("pid") == 5);
    (e.at("cat") == "op" ? ops : sections).push_back(e);
  }
  const auto total = std::accumulate(profile.rows().begin(), profile.rows().end(), std::uint64_t{0},
                                     [](std::uint64_t sum, const auto& row) { return sum + row.calls; });
  BOOST_TEST(ops.size() == total);
  BOOST_TEST(sections.size() == 4U * 4);
  const auto begin = [](const nlohmann::json& e) { return e.at("ts").get<double>(); };
  const auto end = [&](const nlohmann::json& e) { return begin(e) + e.at("dur").get<double>(); };
  const auto inside = [&](const nlohmann::json& e, const std::string& name) {
    // Microseconds since 1970 in a double are a quarter of one apart.
    return std::any_of(sections.begin(), sections.end(), [&](const auto& s) {
      return s.at("name") == name && begin(s) <= begin(e) + 1 && end(e) <= end(s) + 1;
    });
  };
  for (const auto& s : sections) BOOST_TEST(inside(s, "step"));
  for (const auto& e : ops) {
    if (e.at("name") == "attention") BOOST_TEST(inside(e, "forward"));
    if (e.at("name") == "adamw") BOOST_TEST(inside(e, "optimizer"));
    if (e.at("name") == "matmul") BOOST_TEST(e.at("args").at("views").size() == 3U);
  }
}

BOOST_AUTO_TEST_CASE(nothing_is_noted_outside_of_the_scope_nor_of_what_an_op_calls_in_turn) {
  const Tensor a = Tensor::zeros({8, 8}, Dtype::f16), c = Tensor::zeros({8, 8}, Dtype::f16);
  OpProfile profile;
  const auto call = [&] { ops::matmul(default_stream({}), a, a, c, false); };  // copies to f32, and back
  call();
  {
    const OpObserverScope scope(&profile);
    call();
  }
  call();
  BOOST_REQUIRE(profile.rows().size() == 1U);
  BOOST_TEST(profile.rows()[0].calls == 1U);
  BOOST_TEST(profile.rows()[0].shape == "a·b 8x8x8");
}

BOOST_AUTO_TEST_CASE(a_steady_step_asks_the_system_for_no_memory) {
  // The heap of small blocks takes a few steps to find room for all of them.
  for (const auto precision : {train::Precision::bf16, train::Precision::fp32}) {
    const auto result = run(nullptr, 8, precision);
    BOOST_TEST(result.allocations_per_step == 0U);
#ifndef __SANITIZE_ADDRESS__  // which keeps freed blocks of the heap from being used again
    BOOST_TEST(result.page_faults_per_step == 0U);
#endif
  }
}
