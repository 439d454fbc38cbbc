// Started by mpirun: what a plan says of a layout beside what training in that layout does.

#include "comm/bootstrap.h"
#include "framework/base/allocator.h"
#include "framework/base/threads.h"
#include "framework/train/planner.h"
#include "tests/framework/batches.h"

using namespace dujiang;
using namespace dujiang::test;

namespace {

// Of the peak. Rehearsal and run make the same allocations; vectors in a few bytes of host memory aren't counted, and
// other batches may divide documents otherwise.
constexpr double memory_tolerance = 0.01;

train::Config config_of(std::int64_t global_batch, std::int64_t micro_batch, train::Precision precision) {
  train::Config config;
  config.model.hidden_size = 128;
  config.model.num_hidden_layers = 3;
  config.model.num_attention_heads = 4;
  config.model.num_key_value_heads = 2;
  config.model.head_dim = 32;
  config.model.intermediate_size = 320;
  config.model.vocab_size = 1001;  // padded where ranks share it
  config.model.max_position_embeddings = 64;
  config.model.tie_word_embeddings = true;
  config.data.sequence_length = 64;
  config.train.global_batch = global_batch;
  config.train.micro_batch = micro_batch;
  config.train.precision = precision;
  config.optimizer.lr = 1e-3;
  return config;
}

using Counts = std::map<std::pair<std::string, std::string>, std::pair<std::uint64_t, std::uint64_t>>;

// Calls and bytes of each axis with more than one rank.
Counts traffic_of(const parallel::Mesh& mesh) {
  Counts counts;
  const auto read = [&](const comm::Communicator& ranks, const char* axis) {
    for (std::size_t i = 0; i < comm::op_count && ranks.size() > 1; ++i) {
      const auto op = static_cast<comm::Op>(i);
      const auto stats = ranks.stats(op);
      if (stats.calls > 0) counts[{axis, std::string(comm::name_of(op))}] = {stats.calls, stats.bytes};
    }
  };
  read(mesh.tp(), "tp");
  if (&mesh.dp() != &mesh.tp()) read(mesh.dp(), "dp");
  if (&mesh.world() != &mesh.dp() && &mesh.world() != &mesh.tp()) read(mesh.world(), "world");
  return counts;
}

Counts difference(Counts after, const Counts& before) {
  for (const auto& [key, value] : before) {
    after[key].first -= value.first;
    after[key].second -= value.second;
    if (after[key].first == 0) after.erase(key);
  }
  return after;
}

int compare(const train::Config& config, const train::PlannedLayout& layout, comm::Communicator& world) {
  const std::string name =
      fmt::format("{}{}, {} x micro-batch {}, {}, moments {}", layout.str(world.size()),
                  config.train.strict ? ", strict" : "", config.train.global_batch, config.train.micro_batch,
                  train::name_of(config.train.precision), name_of(config.optimizer.moments));
  const std::uint64_t before = host_allocator_stats().in_use;
  reset_host_allocator_peak();
  Counts real;
  std::uint64_t peak = 0;
  {
    auto options = train::step_options(config);
    options.parallel = layout.parallel;
    options.recompute = layout.recompute;
    options.recompute_every = layout.recompute_every;
    models::Qwen3 model(config.model);
    train::TrainStep step(model, world, options);
    step.initialise(1);
    const auto share = step.share_of(config.train.global_batch);
    Counts first;
    for (std::int64_t number = 1; number <= 2; ++number) {
      first = traffic_of(step.mesh());
      step.run(markov_batch(share.count, config.data.sequence_length, config.model.vocab_size,
                            static_cast<std::uint64_t>(number)),
               config.train.micro_batch, number, 1e-3);
    }
    real = difference(traffic_of(step.mesh()), first);
    peak = host_allocator_stats().peak - before;
    step.shared_values();  // what the last step began has ended
  }

  train::DeviceFigures device;
  device.host = true;
  device.memory = device.peak_half = device.peak_single = 1e12;
  device.links.node_ranks = world.size();
  const auto forecast = train::rehearse_step(config, layout, world.size(), device);
  Counts planned;
  for (const auto& t : forecast.traffic)
    if (t.axis == "dp" || t.axis == "tp" || t.axis == "world") planned[{t.axis, t.operation}] = {t.calls, t.bytes};

  int faults = 0;
  const auto fault = [&](const std::string& what) {
    ++faults;
    fmt::print(stderr, "rank {}, {}: {}\n", world.rank(), name, what);
  };
  if (!forecast.refusal.empty()) fault("refused: " + forecast.refusal);
  const double ratio = static_cast<double>(forecast.peak.total) / static_cast<double>(peak);
  if (world.rank() == 0)
    fmt::print("{}: {:.2f} MB, planned {:.4f} of it\n", name, static_cast<double>(peak) / 1e6, ratio);
  if (!(std::abs(ratio - 1) <= memory_tolerance)) fault(fmt::format("planned {:.4f} of the peak memory", ratio));
  for (const auto* counts : {&real, &planned})
    for (const auto& [key, unused] : *counts) {
      if (real[key] == planned[key]) continue;
      fault(fmt::format("{} over {}: {} calls and {} bytes, planned {} and {}", key.second, key.first, real[key].first,
                        real[key].second, planned[key].first, planned[key].second));
      if (counts == &real) planned[key] = real[key];  // told once
    }
  return faults;
}

int run() {
  set_thread_count(1);
  const auto world = comm::make_communicator({});
  int faults = 0;
  const auto bf16 = train::Precision::bf16, fp32 = train::Precision::fp32;
  for (std::int64_t tensor = 1; tensor <= world->size(); tensor *= 2)
    for (std::int64_t zero = 0; zero <= (world->size() > tensor ? 3 : 0); ++zero)
      for (const bool sequence : {false, true}) {
        if (sequence && tensor == 1) continue;
        const train::PlannedLayout layout{{.tensor = tensor, .sequence = sequence, .zero = zero}};
        faults += compare(config_of(8, 2, fp32), layout, *world);
        faults += compare(config_of(20, 1, bf16), layout, *world);  // more micro-batches than are rehearsed
      }
  for (const auto recompute : {train::Recompute::attention, train::Recompute::block})
    for (const std::int64_t every : {1, 2})
      for (const std::int64_t zero : {0, 3})
        faults += compare(config_of(8, 4, bf16), {{.tensor = 1, .zero = zero}, recompute, every}, *world);
  auto narrow = config_of(8, 2, bf16);
  narrow.optimizer.moments = Dtype::bf16;
  for (const std::int64_t zero : {0, 1}) faults += compare(narrow, {{.tensor = 1, .zero = zero}}, *world);
  auto strict = config_of(8, 2, bf16);
  strict.train.strict = true;
  strict.train.strict_ways = 4;
  for (const std::int64_t zero : {0, 2}) faults += compare(strict, {{.tensor = 1, .zero = zero}}, *world);
  if (world->size() > 1) faults += compare(strict, {{.tensor = 2, .zero = 1}}, *world);
  return faults == 0 ? 0 : 1;
}

}  // namespace

int main() {
  return comm::run_job(run);
}
