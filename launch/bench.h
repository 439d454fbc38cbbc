#pragma once
// What the benchmarks share: the workloads, timing, and what this machine can do at most.

#include <cstdint>
#include <functional>
#include <string>

#include "framework/base/dtype.h"
#include "launch/command.h"

namespace dujiang::launch {

/// The options that every benchmark takes.
struct BenchOptions {
  std::string preset = "100m";
  std::string precision = "bf16";
  int threads = 0;  ///< 0: as the environment says
  std::string folder, file, trace;
  std::int64_t sequence = 1024, batch = 32;
  std::int64_t sequences = 1, prompt = 128, new_tokens = 128;
  std::int64_t steps = 0;
  std::int64_t micro_batch = 0, tensor = 1, zero = 0;
  bool alone = false, sequence_parallel = false, strict = false;
  std::string recompute = "elementwise", moments = "fp32";
  Report report;

  void add_to(CLI::App& command, bool with_preset);
  /// Sets the number of threads and returns it.
  int apply_threads() const;
  Dtype dtype() const;
};

/// The median seconds of a call, after one that isn't counted: at least three, more while they take under `budget`
/// seconds together.
double median_seconds(const std::function<void()>& call, double budget = 0.5);

/// The rate of a large copy in GB/s, bytes read and bytes written both counted.
double copy_ceiling_gbs();

int bench_gemm(const BenchOptions& options);
int bench_ops(const BenchOptions& options);
int bench_train(const BenchOptions& options);
int bench_generate(const BenchOptions& options);
int bench_loader(const BenchOptions& options);
int bench_tokenizer(const BenchOptions& options);

}  // namespace dujiang::launch
