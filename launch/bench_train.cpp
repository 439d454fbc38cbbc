#include "framework/train/bench_train.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "comm/bootstrap.h"
#include "framework/base/threads.h"
#include "framework/tensor/tensor.h"
#include "framework/train/gemm_ceiling.h"
#include "launch/bench.h"
#include "ops/cpu/isa.h"

namespace dujiang::launch {

int bench_train(const BenchOptions& options) {
  const auto communicator = comm::make_communicator();
  int threads = options.apply_threads();
  if (options.threads == 0 && std::getenv("OMP_NUM_THREADS") == nullptr) {  // the ranks of a host share its cores
    threads = std::max(1, threads / communicator->local_size());
    set_thread_count(threads);
  }
  train::BenchTrainOptions settings;
  settings.step.precision = options.precision == "fp32"   ? train::Precision::fp32
                            : options.precision == "fp16" ? train::Precision::fp16
                                                          : train::Precision::bf16;
  settings.step.parallel = {.tensor = options.tensor, .sequence = options.sequence_parallel, .zero = options.zero};
  settings.step.recompute = options.recompute == "block"       ? train::Recompute::block
                            : options.recompute == "attention" ? train::Recompute::attention
                                                               : train::Recompute::none;
  settings.step.strict = options.strict;
  settings.micro_batch = options.micro_batch;
  if (options.steps > 0) settings.steps = static_cast<int>(options.steps);
  const auto alone = options.alone ? communicator->split(communicator->rank(), 0) : nullptr;
  const auto r = train::bench_train(train::preset(options.preset), settings, alone ? *alone : *communicator);
  // Measured by all ranks at once, since they share the machine's memory and power.
  communicator->barrier(default_stream({})).wait_host();
  double ceiling = train::gemm_ceiling_gflops(options.dtype(), 0.3);
  communicator->all_reduce(comm::Buffer{&ceiling, 1, Dtype::f64, {}}, comm::Reduce::sum, default_stream({}))
      .wait_host();
  if (communicator->rank() != 0) return 0;
  options.report.print(
      fmt::format("{} {} on {}, {} threads each ({}): {:.0f} tokens/s, {:.1f} ms a step ({:.1f} to {:.1f})\n"
                  "forward {:.1f}  backward {:.1f}  optimizer {:.1f} ms; of these waited for others: {:.1f} over dp, "
                  "{:.1f} over tp\n"
                  "{:.0f} GFLOP/s, {:.0f} % of the GEMM ceiling of {:.0f}; {:.0f} MiB at most, {:.0f} of them "
                  "tensors\n",
                  options.preset, options.precision, alone ? "1 rank" : r.mesh, threads,
                  ops::cpu::name_of(ops::cpu::isa()), r.tokens_per_s, r.step_ms, r.step_ms_min, r.step_ms_max,
                  r.forward_ms, r.backward_ms, r.optimizer_ms, r.dp_exposed_ms, r.tp_exposed_ms, r.gflops,
                  100 * r.gflops / ceiling, ceiling, r.peak_rss_mib, r.peak_tensor_mib),
      {{"preset", options.preset},
       {"precision", options.precision},
       {"threads", threads},
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
       {"share_of_ceiling", r.gflops / ceiling}});
  return 0;
}

}  // namespace dujiang::launch
