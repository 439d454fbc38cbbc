#include "framework/train/planner.h"

#include <boost/test/unit_test.hpp>
#include <fstream>
#include <string>

#include "framework/base/allocator.h"
#include "framework/base/check.h"
#include "framework/tensor/tensor.h"
#include "ops/elementwise.h"
#include "ops/matmul.h"

using namespace dujiang;

namespace {

// A 7 billion parameter model.
train::Config large(std::int64_t global_batch) {
  train::Config config;
  config.model.hidden_size = 4096;
  config.model.num_hidden_layers = 32;
  config.model.num_attention_heads = 32;
  config.model.num_key_value_heads = 32;
  config.model.head_dim = 128;
  config.model.intermediate_size = 11008;
  config.model.vocab_size = 32000;
  config.model.max_position_embeddings = 4096;
  config.data.sequence_length = 4096;
  config.train.global_batch = global_batch;
  config.train.micro_batch = 1;
  config.train.precision = train::Precision::bf16;
  return config;
}

train::DeviceFigures device(double memory = 80e9) {
  train::DeviceFigures figures;
  figures.memory = memory;
  figures.peak_half = 1e15;
  figures.peak_single = 1e14;
  figures.pace = {.half_flops = 5e14, .single_flops = 5e13, .bytes = 2e12};
  figures.links = {.node_ranks = 8, .inside_bytes = 4e11, .across_bytes = 4e10};
  return figures;
}

std::string devices_file() {
  std::ifstream file(DUJIANG_DEVICES);
  return {std::istreambuf_iterator<char>(file), {}};
}

template <class Action>
std::string error_of(Action&& action) {
  try {
    action();
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Resident memory of this process.
double resident() {
  std::ifstream file("/proc/self/statm");
  double pages = 0;
  file >> pages >> pages;
  return pages * 4096;
}

}  // namespace

BOOST_AUTO_TEST_CASE(memory_of_a_rehearsal_is_counted_and_reads_as_zero_but_is_not_used) {
  Rehearsal rehearsal({}, false);
  const double before = resident();
  {
    const RehearsalScope scope(rehearsal);
    const Tensor large = Tensor::zeros({std::int64_t{1} << 34}, Dtype::f32);
    const Tensor small = Tensor::empty({3}, Dtype::f32);
    BOOST_TEST(rehearsal.in_use().total == (std::uint64_t{1} << 36) + 512);
    BOOST_TEST(large.data<float>().back() == 0.0f);
    BOOST_TEST(small.data<float>()[2] == 0.0f);
  }
  BOOST_TEST(rehearsal.in_use().total == 0u);
  BOOST_TEST(rehearsal.at_peak()[MemoryUse::activations] == (std::uint64_t{1} << 36) + 512);
  BOOST_TEST(resident() - before < 16e6);  // the page that was read, and what the test itself takes
}

BOOST_AUTO_TEST_CASE(large_calls_are_counted_and_left_out_and_small_ones_computed) {
  Rehearsal rehearsal({.single_flops = 1e9, .bytes = 1e9}, true);
  const RehearsalScope scope(rehearsal);
  const Tensor a = Tensor::empty({512, 512}, Dtype::f32), b = Tensor::empty({512, 512}, Dtype::f32);
  const Tensor c = Tensor::empty({512, 512}, Dtype::f32), one = Tensor::empty({1}, Dtype::f32);
  a.fill(1);
  b.fill(1);
  ops::matmul(default_stream({}), a, b, c, false);
  one.fill(1);
  BOOST_TEST(c.data<float>()[0] == 0.0f);
  BOOST_TEST(one.item() == 1.0);
  BOOST_TEST(rehearsal.ops().at("matmul").flops == 2.0 * 512 * 512 * 512);
  BOOST_TEST(rehearsal.ops().at("matmul").bytes == 3.0 * 4 * 512 * 512);
  BOOST_TEST(rehearsal.ops().at("matmul").seconds == 2.0 * 512 * 512 * 512 / 1e9);
}

BOOST_AUTO_TEST_CASE(a_rehearsal_ends_with_its_scope) {
  Rehearsal rehearsal({}, true);
  { const RehearsalScope scope(rehearsal); }
  const Tensor t = Tensor::empty({1000}, Dtype::f32);
  t.fill(2);
  BOOST_TEST(t.data<float>()[999] == 2.0f);
  BOOST_TEST(rehearsal.ops().empty());
}

BOOST_AUTO_TEST_CASE(rings_inside_a_node_and_out_of_it_take_the_time_of_their_links) {
  const comm::Links links{
      .node_ranks = 8, .inside_bytes = 400, .across_bytes = 40, .inside_latency = 1, .across_latency = 10};
  const auto seconds = [&](comm::Op op, std::vector<int> members) {
    return comm::collective_seconds(op, 1600, members, links);
  };
  // 3/4 of the vector over a link of 400, and three steps.
  BOOST_TEST(seconds(comm::Op::all_gather, {0, 1, 2, 3}) == 3.0 + 3);
  BOOST_TEST(seconds(comm::Op::all_reduce, {0, 1, 2, 3}) == 2 * (3.0 + 3));
  // One rank of each of two nodes: half of it over a single link of 40.
  BOOST_TEST(seconds(comm::Op::reduce_scatter, {0, 8}) == 20.0 + 10);
  // Two of each: twice the links out.
  BOOST_TEST(seconds(comm::Op::reduce_scatter, {0, 1, 8, 9}) == 15.0 + 1 + 10);
  BOOST_TEST(seconds(comm::Op::all_reduce, {5}) == 0.0);
}

BOOST_AUTO_TEST_CASE(zero_stages_leave_what_the_formula_says) {
  auto config = large(8);
  const double n = static_cast<double>(models::parameter_count(config.model));
  const int ranks = 8;
  const auto bytes = [&](int zero, MemoryUse use) {
    return static_cast<double>(train::rehearse_step(config, {{.zero = zero}}, ranks, device()).peak[use]);
  };
  const double rest = 2.0 * 32000 * 4096;  // embedding and head, which stay whole but for the optimizer's state
  const double block = (n - rest) / 32;
  // 5 %: the allocator rounds up, and the rotary table counts among the parameters.
  const auto close = boost::test_tools::tolerance(0.05);
  BOOST_TEST(bytes(0, MemoryUse::optimizer) == 10 * n, close);
  BOOST_TEST(bytes(1, MemoryUse::optimizer) == 10 * n / ranks, close);
  BOOST_TEST(bytes(1, MemoryUse::gradients) == 4 * n, close);
  // Two blocks' buffers beside the shards.
  BOOST_TEST(bytes(2, MemoryUse::gradients) == 4 * ((n - rest) / ranks + rest + 2 * block), close);
  BOOST_TEST(bytes(2, MemoryUse::parameters) == 2 * n, close);
  BOOST_TEST(bytes(3, MemoryUse::parameters) == 2 * ((n - rest) / ranks + rest + 2 * block), close);
  config.optimizer.moments = Dtype::bf16;
  BOOST_TEST(bytes(0, MemoryUse::optimizer) == 6 * n, close);
  BOOST_TEST(bytes(1, MemoryUse::optimizer) == 6 * n / ranks, close);
}

BOOST_AUTO_TEST_CASE(the_first_fits_and_the_reason_says_what_does_not) {
  const auto plan = train::plan_training(large(64), 64, device(), false);
  BOOST_TEST_REQUIRE(!plan.ranked.empty());
  for (std::size_t i = 0; i < plan.ranked.size(); ++i) {
    BOOST_TEST(plan.ranked[i].fits);
    // Equals within half a per cent may stand the other way round.
    if (i > 0) BOOST_TEST(plan.ranked[i].tokens_per_second <= plan.ranked[i - 1].tokens_per_second * 1.006);
  }
  for (const auto& f : plan.too_large) BOOST_TEST(static_cast<double>(f.peak.total) > 80e9);
  BOOST_TEST(contains(plan.reason, plan.ranked.front().layout.str(64)));
  BOOST_TEST(contains(plan.reason, "would need"));
  const auto none = train::plan_training(large(64), 64, device(1e9), false);
  BOOST_TEST(none.ranked.empty());
  BOOST_TEST(contains(none.reason, "none fits"));
  BOOST_TEST(contains(none.reason, none.too_large.front().layout.str(64)));
}

BOOST_AUTO_TEST_CASE(impossible_layouts_say_why) {
  const auto forecast = train::rehearse_step(large(16), {{.zero = 1}}, 64, device());
  BOOST_TEST(contains(forecast.refusal, "train.global_batch: 16"));
  const auto tensor = train::rehearse_step(large(64), {{.tensor = 3}}, 64, device());
  BOOST_TEST(contains(tensor.refusal, "parallel.tensor: 3"));
}

BOOST_AUTO_TEST_CASE(slower_links_are_waited_for) {
  auto slow = device();
  slow.links.across_bytes /= 10;
  const train::PlannedLayout layout{{.zero = 3}};
  const auto fast = train::rehearse_step(large(64), layout, 64, device());
  const auto late = train::rehearse_step(large(64), layout, 64, slow);
  BOOST_TEST(late.exposed_seconds > fast.exposed_seconds);
  BOOST_TEST(late.step_seconds > fast.step_seconds);
  BOOST_TEST(late.limit == "communication over dp");
  BOOST_TEST(fast.limit == "products");
}

BOOST_AUTO_TEST_CASE(every_device_of_the_file_can_be_read) {
  const train::HostFigures host{.half_flops = 1e12, .single_flops = 1e12, .bytes = 1e10, .memory = 1e10, .ranks = 2};
  for (const char* key : {"cpu", "h100", "h100-96", "h800", "a100", "ascend910b", "ascend910c"}) {
    const auto figures = train::read_device(devices_file(), "devices.yaml", key, host);
    BOOST_TEST(figures.memory > 0);
    BOOST_TEST(figures.pace.half_flops < figures.peak_half);
    BOOST_TEST(figures.links.across_bytes > 0);
  }
}

BOOST_AUTO_TEST_CASE(faults_of_a_devices_file_are_named) {
  const auto read = [](const std::string& text, const std::string& key) {
    return error_of([&] { train::read_device(text, "mine.yaml", key, {}); });
  };
  BOOST_TEST(contains(read(devices_file(), "h1000"), "--device h1000: expected one of h100, h100-96, h800"));
  BOOST_TEST(contains(read("devices: {x: {across_gbs: 1}}", "x"), "devices.x: sources is missing"));
  BOOST_TEST(contains(read("devices: {x: {across_gbs: fast, sources: {all: me}}}", "x"),
                      "mine.yaml: devices.x: across_gbs: expected a number, found 'fast'"));
  BOOST_TEST(contains(read("devices: {x: {sources: {all: me}}}", "x"), "across_gbs is missing"));
  BOOST_TEST(contains(read("- 1", "x"), "expected a map `devices`"));
}
