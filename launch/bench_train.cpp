#include "framework/train/bench_train.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "comm/bootstrap.h"
#include "framework/tensor/tensor.h"
#include "framework/train/gemm_ceiling.h"
#include "framework/train/rank_threads.h"
#include "launch/bench.h"
#include "launch/bench_profile.h"
#include "ops/cpu/isa.h"

namespace dujiang::launch {

int bench_train(const BenchOptions& options) {
  const auto communicator = comm::make_communicator();
  const auto placed = train::set_rank_threads(options.threads, *communicator);
  const int threads = placed.threads;
  train::BenchTrainOptions settings;
  settings.step.precision = options.precision == "fp32"   ? train::Precision::fp32
                            : options.precision == "fp16" ? train::Precision::fp16
                                                          : train::Precision::bf16;
  settings.step.parallel = {.tensor = options.tensor, .sequence = options.sequence_parallel, .zero = options.zero};
  for (const auto recompute :
       {train::Recompute::none, train::Recompute::elementwise, train::Recompute::attention, train::Recompute::block})
    if (options.recompute == train::name_of(recompute)) settings.step.recompute = recompute;
  settings.step.optimizer.moments = options.moments == "bf16" ? Dtype::bf16 : Dtype::f32;
  settings.step.strict = options.strict;
  settings.micro_batch = options.micro_batch;
  if (options.steps > 0) settings.steps = static_cast<int>(options.steps);
  OpProfile profile;
  const bool profiled = !options.trace.empty() && communicator->rank() == 0;
  if (profiled) settings.profile = &profile;
  if (!options.trace.empty() && options.strict && threads > 1)
    fail_user("--profile: with --strict, ops of several slices run at once on {} threads: choose --threads 1", threads);
  const auto alone = options.alone ? communicator->split(communicator->rank(), 0) : nullptr;
  const auto r = train::bench_train(train::preset(options.preset), settings, alone ? *alone : *communicator);
  // Measured by all ranks at once, since they share the machine's memory and power.
  communicator->barrier(default_stream({})).wait_host();
  double ceiling = train::gemm_ceiling_gflops(options.dtype(), 0.3);
  const double own_ceiling = ceiling, copies = options.trace.empty() ? 0 : copy_ceiling_gbs();
  communicator->all_reduce(comm::Buffer{&ceiling, 1, Dtype::f64, {}}, comm::Reduce::sum, default_stream({}))
      .wait_host();
  if (communicator->rank() != 0) return 0;
  const auto listed = profiled ? profile_report(profile, own_ceiling, copies) : ProfileReport{};
  if (profiled) profile.trace(communicator->rank()).save(options.trace);
  nlohmann::json object = {{"preset", options.preset},
                           {"precision", options.precision},
                           {"moments", options.moments},
                           {"threads", threads},
                           {"pinned", placed.pinned},
                           {"ranks", alone ? 1 : communicator->size()},
                           {"isa", ops::cpu::name_of(ops::cpu::isa())},
                           {"parameters", r.parameters},
                           {"micro_batch", r.micro_batch},
                           {"sequence", r.sequence},
                           {"tokens_per_s", r.tokens_per_s},
                           {"step_ms", r.step_ms},
                           {"step_ms_min", r.step_ms_min},
                           {"step_ms_max", r.step_ms_max},
                           {"forward_ms", r.forward_ms},
                           {"backward_ms", r.backward_ms},
                           {"dp_exposed_ms", r.dp_exposed_ms},
                           {"tp_exposed_ms", r.tp_exposed_ms},
                           {"optimizer_ms", r.optimizer_ms},
                           {"loss", r.loss},
                           {"mesh", r.mesh},
                           {"peak_rss_mib", r.peak_rss_mib},
                           {"peak_tensor_mib", r.peak_tensor_mib},
                           {"gflops", r.gflops},
                           {"gemm_ceiling_gflops", ceiling},
                           {"share_of_ceiling", r.gflops / ceiling},
                           {"allocations_per_step", r.allocations_per_step},
                           {"page_faults_per_step", r.page_faults_per_step}};
  if (profiled) object["profile"] = listed.object;
  options.report.print(
      fmt::format("{} {} on {}, each {} ({}): {:.0f} tokens/s, {:.1f} ms a step ({:.1f} to {:.1f})\n"
                  "forward {:.1f}  backward {:.1f}  optimizer {:.1f} ms; of these waited for others: {:.1f} over dp, "
                  "{:.1f} over tp\n"
                  "{:.0f} GFLOP/s, {:.0f} % of the GEMM ceiling of {:.0f}; {:.0f} MiB at most, {:.0f} of them "
                  "tensors; {} allocations of tensors' memory and {} page faults in a step\n",
                  options.preset, options.precision, alone ? "1 rank" : r.mesh, placed.str(),
                  ops::cpu::name_of(ops::cpu::isa()), r.tokens_per_s, r.step_ms, r.step_ms_min, r.step_ms_max,
                  r.forward_ms, r.backward_ms, r.optimizer_ms, r.dp_exposed_ms, r.tp_exposed_ms, r.gflops,
                  100 * r.gflops / ceiling, ceiling, r.peak_rss_mib, r.peak_tensor_mib, r.allocations_per_step,
                  r.page_faults_per_step) +
          listed.text,
      object);
  return 0;
}

}  // namespace dujiang::launch
