#include "launch/plan.h"

#include <fmt/format.h>
#include <omp.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "comm/bootstrap.h"
#include "framework/base/check.h"
#include "framework/base/threads.h"
#include "framework/train/gemm_ceiling.h"
#include "framework/train/planner.h"
#include "launch/bench.h"
#include "launch/command.h"

namespace dujiang::launch {
namespace {

struct PlanCommand {
  std::string config, device = "cpu", devices;
  std::vector<std::string> overrides;
  int ranks = 0, node_ranks = 0;
  bool all = false;
  Report report;
};

// As many ranks on this machine as it has processors, unless told otherwise; each gets its share of what all do
// together.
train::HostFigures measure_host(const PlanCommand& command, const train::Config& config, int ranks) {
  const int processors = omp_get_num_procs();
  train::HostFigures host;
  host.ranks = command.node_ranks > 0 ? command.node_ranks : std::min(ranks, processors);
  host.memory = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  set_thread_count(processors);
  constexpr double seconds = 0.1;
  host.half_flops = train::gemm_ceiling_gflops(Dtype::bf16, seconds) * 1e9 / host.ranks;
  host.single_flops = train::gemm_ceiling_gflops(Dtype::f32, seconds) * 1e9 / host.ranks;
  host.bytes = copy_ceiling_gbs() * 1e9 / host.ranks;
  // Temporary memory depends on it: as a training run would choose.
  const char* const environment = std::getenv("OMP_NUM_THREADS");
  set_thread_count(config.train.threads > 0 ? config.train.threads
                   : environment != nullptr ? std::max(1, std::atoi(environment))
                                            : std::max(1, processors / host.ranks));
  return host;
}

std::string size(double bytes) {
  if (bytes >= 1e9) return fmt::format("{:.3g} GB", bytes / 1e9);
  if (bytes >= 1e6) return fmt::format("{:.3g} MB", bytes / 1e6);
  return fmt::format("{:.3g} kB", bytes / 1e3);
}

std::string duration(double seconds) {
  return seconds >= 1 ? fmt::format("{:.3g} s", seconds) : fmt::format("{:.3g} ms", seconds * 1e3);
}

double bytes_of(const train::Forecast& f, MemoryUse use) {
  return static_cast<double>(f.peak[use]);
}

nlohmann::ordered_json forecast_json(const train::Forecast& f, int ranks) {
  nlohmann::ordered_json object = {{"layout", f.layout.str(ranks)},
                                   {"tensor", f.layout.parallel.tensor},
                                   {"sequence", f.layout.parallel.sequence},
                                   {"zero", f.layout.parallel.zero},
                                   {"recompute", std::string(train::name_of(f.layout.recompute))},
                                   {"recompute_every", f.layout.recompute_every}};
  if (!f.refusal.empty()) {
    object["refused"] = f.refusal;
    return object;
  }
  object["data"] = f.data;
  object["micro_batches"] = f.micro_batches;
  for (std::size_t use = 0; use < memory_use_count; ++use)
    object["memory"][name_of(static_cast<MemoryUse>(use))] = f.peak.of[use];
  object["memory"]["peak"] = f.peak.total;
  object["fits"] = f.fits;
  auto traffic = nlohmann::ordered_json::array();
  for (const auto& t : f.traffic)
    traffic.push_back({{"axis", t.axis},
                       {"operation", t.operation},
                       {"ranks", t.ranks},
                       {"calls", t.calls},
                       {"bytes", t.bytes},
                       {"ms", t.seconds * 1e3},
                       {"exposed_ms", t.exposed_seconds * 1e3}});
  object["traffic"] = std::move(traffic);
  object["flops"] = f.flops;
  object["step_ms"] = f.step_seconds * 1e3;
  object["products_ms"] = f.products_seconds * 1e3;
  object["attention_ms"] = f.attention_seconds * 1e3;
  object["sweeps_ms"] = f.sweeps_seconds * 1e3;
  object["comm_exposed_ms"] = f.exposed_seconds * 1e3;
  object["tokens_per_s"] = f.tokens_per_second;
  object["utilisation"] = f.utilisation;
  object["limit"] = f.limit;
  return object;
}

std::string row(const train::Forecast& f, int ranks) {
  return fmt::format("{:<52} {:>9.3g} {:>9} {:>6.1f} {:>9} {:>9}  {}\n", f.layout.str(ranks), f.tokens_per_second,
                     duration(f.step_seconds), 100 * f.utilisation, size(static_cast<double>(f.peak.total)),
                     duration(f.exposed_seconds), f.fits ? f.limit : "does not fit");
}

std::string details(const train::Forecast& f, int ranks) {
  std::string text =
      fmt::format("\n{}, per rank and step ({} micro-batches, {:.4g} TFLOP)\n  memory:", f.layout.str(ranks),
                  f.micro_batches, f.flops / 1e12);
  for (std::size_t use = 0; use < memory_use_count; ++use)
    text +=
        fmt::format(" {} {},", name_of(static_cast<MemoryUse>(use)), size(bytes_of(f, static_cast<MemoryUse>(use))));
  text += fmt::format(" peak {} of {}\n", size(static_cast<double>(f.peak.total)), size(f.memory));
  text += fmt::format("  time: products {}, attention {}, sweeps over memory {}, waiting for others {}\n",
                      duration(f.products_seconds), duration(f.attention_seconds), duration(f.sweeps_seconds),
                      duration(f.exposed_seconds));
  for (const auto& t : f.traffic)
    text += fmt::format("  {} {} x {}: {}, {} under way, {} of it waited for\n", t.axis, t.operation, t.calls,
                        size(static_cast<double>(t.bytes)), duration(t.seconds), duration(t.exposed_seconds));
  return text;
}

int plan(const PlanCommand& command) {
  auto config = train::load_config(command.config, command.overrides, train::Purpose::plan);
  const auto launch = comm::detect_launch();
  if (launch.rank != 0) return 0;
  const int ranks = command.ranks > 0 ? command.ranks : launch.size;
  if (config.model.vocab_size == 0)
    fail_user(
        "{}: model.vocab_size is missing: a plan needs the number of tokens (give model.vocab_size=N; training "
        "takes the tokenizer's)",
        command.config);
  const bool own = command.devices.empty();
  const auto host = command.device == "cpu" ? measure_host(command, config, ranks) : train::HostFigures{};
  auto device = train::read_device(own ? devices_yaml : read_text(command.devices),
                                   own ? "configs/devices.yaml" : command.devices, command.device, host);
  if (command.node_ranks > 0) device.links.node_ranks = command.node_ranks;
  const auto result = train::plan_training(config, ranks, device, command.all);

  const double parameters = static_cast<double>(models::parameter_count(config.model));
  std::string text = fmt::format(
      "{:.4g} million parameters on {} x {} ({}), global batch {} x {} tokens, micro-batch {}, {}{}\n\n",
      parameters / 1e6, ranks, device.key, device.name, config.train.global_batch, config.data.sequence_length,
      config.train.micro_batch, train::name_of(config.train.precision), config.train.strict ? ", strict" : "");
  text += fmt::format("{:<52} {:>9} {:>9} {:>6} {:>9} {:>9}  {}\n", "layout", "tokens/s", "step", "MFU %", "memory",
                      "waiting", "limited by");
  const std::size_t most = command.all ? result.ranked.size() : 10;
  for (std::size_t i = 0; i < std::min(most, result.ranked.size()); ++i) text += row(result.ranked[i], ranks);
  if (most < result.ranked.size()) text += fmt::format("... and {} more (--all)\n", result.ranked.size() - most);
  const std::size_t failed = command.all ? result.too_large.size() : result.ranked.empty() ? 5 : 3;
  for (std::size_t i = 0; i < std::min(failed, result.too_large.size()); ++i) text += row(result.too_large[i], ranks);
  // Layouts that are refused for one reason share a line.
  std::map<std::string, std::vector<std::string>> refused;
  for (const auto& f : result.refused) refused[f.refusal].push_back(f.layout.str(ranks));
  for (const auto& [why, layouts] : refused)
    text += fmt::format("impossible: {}{}: {}\n", layouts.front(),
                        layouts.size() > 1 ? fmt::format(" and {} like it", layouts.size() - 1) : "", why);
  text += fmt::format("\n{}\n", result.reason);
  if (!result.ranked.empty() || !result.too_large.empty())
    text += details(result.ranked.empty() ? result.too_large.front() : result.ranked.front(), ranks);
  const train::PlannedLayout asked{config.parallel, config.train.recompute, config.train.recompute_every};
  for (const auto* list : {&result.ranked, &result.too_large})
    for (const auto& f : *list)
      if (f.layout == asked && &f != &list->front()) text += "\nAs the config says:" + details(f, ranks);

  nlohmann::ordered_json object = {{"parameters", parameters},
                                   {"ranks", ranks},
                                   {"device", {{"key", device.key}, {"name", device.name}, {"memory", device.memory}}},
                                   {"reason", result.reason}};
  const auto add = [&](const char* name, const std::vector<train::Forecast>& list) {
    auto array = nlohmann::ordered_json::array();
    for (const auto& f : list) array.push_back(forecast_json(f, ranks));
    object[name] = std::move(array);
  };
  add("ranked", result.ranked);
  add("too_large", result.too_large);
  add("refused", result.refused);
  command.report.print(text, object);
  return result.ranked.empty() ? 2 : 0;
}

}  // namespace

void add_plan(CLI::App& app, Action& action) {
  auto command = std::make_shared<PlanCommand>();
  auto* planning = subcommand(app, "plan",
                              "What a training step would take in every layout, before a run: memory, traffic, time. "
                              "Needs no data; ends with status 2 when no layout fits",
                              "dujiang plan configs/quickstart.yaml --ranks 64 --device ascend910b");
  planning->add_option("CONFIG", command->config, "The YAML file")->required();
  planning->add_option("OVERRIDES", command->overrides, "key.path=value, for example train.micro_batch=2");
  planning->add_option("--ranks", command->ranks, "Ranks to plan for; without it, those of the launcher, or 1")
      ->check(CLI::Range(1, 1 << 20));
  planning->add_option("--device", command->device, "A device of configs/devices.yaml; cpu: this machine, measured")
      ->capture_default_str();
  planning->add_option("--devices", command->devices, "Another file of devices, in the form of configs/devices.yaml");
  planning->add_option("--node-ranks", command->node_ranks, "Ranks in a node; without it, as the device says")
      ->check(CLI::PositiveNumber);
  planning->add_flag("--all", command->all, "Every layout, also those that recompute or shard more than they need");
  command->report.add_option(*planning);
  planning->callback([=, &action] { action = [=] { return plan(*command); }; });
}

}  // namespace dujiang::launch
