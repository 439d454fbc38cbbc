#include "framework/train/planner.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <tuple>

#include "framework/base/check.h"
#include "framework/parallel/mesh.h"
#include "framework/train/train_step.h"

namespace dujiang::train {
namespace {

// Sequences without padding, one document each. The tokens say nothing.
data::Batch blank_batch(std::int64_t sequences, std::int64_t length) {
  data::Batch batch;
  batch.sequences = sequences;
  batch.length = length;
  const auto tokens = static_cast<std::size_t>(sequences * length);
  batch.tokens.assign(tokens, 0);
  batch.labels.assign(tokens, 0);
  batch.loss_weight.assign(tokens, 1.0f);
  batch.weight_sum = static_cast<double>(tokens);
  for (std::int64_t i = 0; i < sequences * length; ++i)
    batch.positions.push_back(static_cast<std::int32_t>(i % length));
  for (std::int64_t s = 0; s <= sequences; ++s) batch.segments.push_back(static_cast<std::int32_t>(s * length));
  return batch;
}

// What a rehearsal has counted so far, or in between.
struct Count {
  std::map<std::pair<std::string, std::string>, Rehearsal::Transfers> transfers;
  double flops = 0, products = 0, attention = 0, sweeps = 0, seconds = 0;

  explicit Count(const Rehearsal& rehearsal) : transfers(rehearsal.transfers()), seconds(rehearsal.now()) {
    for (const auto& [op, total] : rehearsal.ops()) {
      flops += total.flops;
      (op.starts_with("attention") ? attention : total.flops > 0 ? products : sweeps) += total.seconds;
    }
  }

  // this + times * other
  Count& add(const Count& other, double times) {
    for (const auto& [key, t] : other.transfers) {
      auto& mine = transfers[key];
      mine.calls = static_cast<std::uint64_t>(
          std::llround(static_cast<double>(mine.calls) + times * static_cast<double>(t.calls)));
      mine.bytes += times * t.bytes;
      mine.seconds += times * t.seconds;
      mine.exposed_seconds += times * t.exposed_seconds;
    }
    flops += times * other.flops;
    products += times * other.products;
    attention += times * other.attention;
    sweeps += times * other.sweeps;
    seconds += times * other.seconds;
    return *this;
  }
};

void read_off(const Count& count, const TrainStep& step, Forecast& forecast) {
  const auto& mesh = step.mesh();
  for (const auto& [key, t] : count.transfers) {
    if (t.calls == 0 || mesh.world().size() == 1) continue;
    Traffic traffic{.axis = key.first,
                    .operation = key.second,
                    .ranks = 0,
                    .calls = t.calls,
                    .bytes = static_cast<std::uint64_t>(std::llround(t.bytes)),
                    .seconds = t.seconds,
                    .exposed_seconds = t.exposed_seconds};
    for (const auto* ranks : {&mesh.world(), &mesh.dp(), &mesh.tp()}) {
      if (ranks->size() == 1 || ranks->flight()->name() != key.first) continue;
      traffic.axis = ranks == &mesh.tp() ? "tp" : ranks == &mesh.dp() ? "dp" : "world";
      traffic.ranks = ranks->size();
    }
    forecast.exposed_seconds += t.exposed_seconds;
    forecast.traffic.push_back(traffic);
  }
  forecast.flops = count.flops;
  forecast.products_seconds = count.products;
  forecast.attention_seconds = count.attention;
  forecast.sweeps_seconds = count.sweeps;
  forecast.step_seconds = count.seconds;
}

std::string limit_of(const Forecast& f) {
  std::map<std::string, double> seconds{
      {"products", f.products_seconds}, {"attention", f.attention_seconds}, {"memory bandwidth", f.sweeps_seconds}};
  for (const auto& t : f.traffic) seconds["communication over " + t.axis] += t.exposed_seconds;
  return std::max_element(seconds.begin(), seconds.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

double gb(double bytes) {
  return bytes / 1e9;
}

// Smaller is simpler: fewer mechanisms, then less of each.
auto complexity(const PlannedLayout& layout) {
  return std::tuple(layout.parallel.tensor, layout.parallel.sequence, layout.parallel.zero, layout.recompute,
                    -layout.recompute_every);
}

double moved(const Forecast& f) {
  double bytes = 0;
  for (const auto& t : f.traffic) bytes += static_cast<double>(t.bytes);
  return bytes;
}

// "NAME is 12 % slower: it moves 3.2 GB more a step".
std::string comparison(const Forecast& first, const Forecast& other, int ranks) {
  const double slower = (first.tokens_per_second / other.tokens_per_second - 1) * 100;
  std::string text = slower < 0.5 ? fmt::format("{} would be as fast, but is less simple", other.layout.str(ranks))
                                  : fmt::format("{} would be {:.1f} % slower", other.layout.str(ranks), slower);
  std::vector<std::string> more;
  if (const double bytes = moved(other) - moved(first); bytes > 0.01 * std::max(moved(first), 1e6))
    more.push_back(fmt::format("move {:.3g} GB more a step", gb(bytes)));
  if (const double s = other.exposed_seconds - first.exposed_seconds; s > 0.002 * first.step_seconds)
    more.push_back(fmt::format("wait {:.3g} s more for it", s));
  if (const double flops = other.flops - first.flops; flops > 0.01 * first.flops)
    more.push_back(fmt::format("compute {:.0f} % more", flops / first.flops * 100));
  if (!more.empty()) text += fmt::format(" ({})", fmt::join(more, ", "));
  return text;
}

std::string reason_for(const TrainingPlan& plan, int ranks) {
  if (plan.ranked.empty()) {
    if (plan.too_large.empty()) return "no layout is possible: " + plan.refused.front().refusal;
    const auto& least = plan.too_large.front();
    return fmt::format(
        "none fits: {} needs least, {:.3g} GB of {:.3g} GB; lower train.micro_batch, take more ranks or a "
        "device with more memory",
        least.layout.str(ranks), gb(static_cast<double>(least.peak.total)), gb(least.memory));
  }
  const auto& first = plan.ranked.front();
  std::string text = fmt::format("{} fits ({:.3g} of {:.3g} GB)", first.layout.str(ranks),
                                 gb(static_cast<double>(first.peak.total)), gb(first.memory));
  const Forecast* simpler = nullptr;
  for (const auto& f : plan.too_large)
    if (complexity(f.layout) < complexity(first.layout) && simpler == nullptr) simpler = &f;
  if (simpler != nullptr)
    text += fmt::format("; {} would need {:.3g} GB", simpler->layout.str(ranks),
                        gb(static_cast<double>(simpler->peak.total)));
  if (plan.ranked.size() > 1) text += "; " + comparison(first, plan.ranked[1], ranks);
  return text;
}

}  // namespace

bool PlannedLayout::operator==(const PlannedLayout& other) const {
  return complexity(*this) == complexity(other);
}

std::string PlannedLayout::str(int ranks) const {
  std::vector<std::string> parts;
  if (parallel.tensor > 1)
    parts.push_back(fmt::format("tensor {}{}", parallel.tensor, parallel.sequence ? "+seq" : ""));
  const std::int64_t data = ranks / std::max<std::int64_t>(parallel.tensor, 1);
  if (data > 1) parts.push_back(fmt::format("data {}, ZeRO {}", data, parallel.zero));
  if (parts.empty()) parts.emplace_back("1 rank");
  if (recompute != Recompute::none)
    parts.push_back(fmt::format("recompute {}{}", name_of(recompute),
                                recompute_every > 1 ? fmt::format(" 1 of {}", recompute_every) : ""));
  return fmt::format("{}", fmt::join(parts, ", "));
}

Forecast rehearse_step(const Config& config, const PlannedLayout& layout, int ranks, const DeviceFigures& device) {
  Forecast forecast;
  forecast.layout = layout;
  forecast.memory = device.memory;
  StepOptions options = step_options(config);
  options.parallel = layout.parallel;
  options.recompute = layout.recompute;
  options.recompute_every = layout.recompute_every;
  Rehearsal rehearsal(device.pace, device.host);
  const RehearsalScope scope(rehearsal);
  try {
    const auto world = comm::make_rehearsal_communicator(0, ranks, device.links);
    const auto model = [&] {
      const MemoryScope constants(MemoryUse::parameters);
      return std::make_unique<models::Qwen3>(config.model);
    }();
    TrainStep step(*model, *world, options);
    forecast.data = step.mesh().dp().size();
    const std::int64_t sequences = step.share_of(config.train.global_batch).count;
    const std::int64_t micro = options.strict ? 1 : std::min(config.train.micro_batch, sequences);
    forecast.micro_batches = (sequences + micro - 1) / micro;
    const std::int64_t last = sequences - (forecast.micro_batches - 1) * micro;
    std::int64_t number = 0;
    // Steps of `count` micro-batches; in strict mode the number of sequences decides on the tree, so all are run.
    const auto run = [&](std::int64_t count) {
      const Count before(rehearsal);
      step.run(blank_batch((count - 1) * micro + last, config.data.sequence_length), micro, ++number, 1e-4);
      return Count(rehearsal).add(before, -1);
    };
    // The first step has nothing of an earlier one to wait for. Micro-batches between the first and the last are alike.
    const std::int64_t shown =
        options.strict ? forecast.micro_batches : std::min<std::int64_t>(forecast.micro_batches, 3);
    run(options.strict ? shown : 1);
    Count count = run(shown);
    if (forecast.micro_batches > shown) {
      const Count between = Count(count).add(run(shown - 1), -1);
      count.add(between, static_cast<double>(forecast.micro_batches - shown));
    }
    read_off(count, step, forecast);
  } catch (const UserError& error) {
    forecast.refusal = error.what();
    return forecast;
  }
  forecast.peak = rehearsal.at_peak();
  forecast.fits = static_cast<double>(forecast.peak.total) <= forecast.memory;
  const double tokens = static_cast<double>(config.train.global_batch * config.data.sequence_length);
  forecast.tokens_per_second = tokens / forecast.step_seconds;
  const double peak = config.train.precision == Precision::fp32 ? device.peak_single : device.peak_half;
  forecast.utilisation = models::training_flops_per_token(config.model, config.data.sequence_length) *
                         forecast.tokens_per_second / ranks / peak;
  forecast.limit = limit_of(forecast);
  return forecast;
}

std::vector<PlannedLayout> layouts_for(const Config& config, int ranks, const DeviceFigures& device) {
  std::vector<PlannedLayout> layouts;
  const std::int64_t most = std::min<std::int64_t>({ranks, device.links.node_ranks, config.model.num_attention_heads});
  for (std::int64_t tensor = 1; tensor <= most; tensor *= 2) {
    if (ranks % tensor != 0) break;
    for (const bool sequence : {false, true}) {
      if (sequence && tensor == 1) continue;
      for (std::int64_t zero = 0; zero <= (ranks > tensor ? 3 : 0); ++zero)
        for (const auto recompute : {Recompute::none, Recompute::elementwise, Recompute::attention, Recompute::block})
          layouts.push_back({{.tensor = tensor, .sequence = sequence, .zero = zero}, recompute, 1});
    }
  }
  PlannedLayout own{config.parallel, config.train.recompute, config.train.recompute_every};
  if (std::find(layouts.begin(), layouts.end(), own) == layouts.end()) layouts.push_back(own);
  return layouts;
}

TrainingPlan plan_training(const Config& config, int ranks, const DeviceFigures& device, bool all) {
  TrainingPlan plan;
  const PlannedLayout own{config.parallel, config.train.recompute, config.train.recompute_every};
  for (const auto& layout : layouts_for(config, ranks, device)) {
    // Recomputation only costs where the same layout fits without.
    const bool pointless = std::any_of(plan.ranked.begin(), plan.ranked.end(), [&](const Forecast& f) {
      return f.layout.parallel.tensor == layout.parallel.tensor && f.layout.parallel.zero == layout.parallel.zero &&
             f.layout.parallel.sequence == layout.parallel.sequence && f.layout.recompute < layout.recompute;
    });
    if (pointless && !all && !(layout == own)) continue;
    auto forecast = rehearse_step(config, layout, ranks, device);
    auto& list = !forecast.refusal.empty() ? plan.refused : forecast.fits ? plan.ranked : plan.too_large;
    list.push_back(std::move(forecast));
  }
  // Within half a per cent the model can't tell: the simpler one first.
  const auto faster = [](const Forecast& a, const Forecast& b) { return a.tokens_per_second > b.tokens_per_second; };
  std::stable_sort(plan.ranked.begin(), plan.ranked.end(), faster);
  for (auto first = plan.ranked.begin(); first != plan.ranked.end();) {
    const auto equal = std::find_if(first, plan.ranked.end(), [&](const Forecast& f) {
      return f.tokens_per_second < first->tokens_per_second * 0.995;
    });
    std::sort(first, equal,
              [](const Forecast& a, const Forecast& b) { return complexity(a.layout) < complexity(b.layout); });
    first = equal;
  }
  std::stable_sort(plan.too_large.begin(), plan.too_large.end(),
                   [](const Forecast& a, const Forecast& b) { return a.peak.total < b.peak.total; });
  plan.reason = reason_for(plan, ranks);
  return plan;
}

}  // namespace dujiang::train
