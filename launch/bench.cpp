#include "launch/bench.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <vector>

#include "framework/base/check.h"
#include "framework/base/threads.h"
#include "framework/tensor/tensor.h"
#include "launch/bench_comm.h"
#include "ops/elementwise.h"

namespace dujiang::launch {

void BenchOptions::add_to(CLI::App& command, bool with_preset) {
  if (with_preset) {
    command.add_option("--preset", preset, "The workload: 10m, 100m or 500m")
        ->check(CLI::IsMember({"10m", "100m", "500m"}))
        ->capture_default_str();
    command.add_option("--precision", precision, "bf16, fp16 or fp32")
        ->check(CLI::IsMember({"bf16", "fp16", "fp32"}))
        ->capture_default_str();
  }
  command.add_option("--threads", threads, "Compute threads; 0: as OMP_NUM_THREADS and the cores say")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  report.add_option(command);
}

int BenchOptions::apply_threads() const {
  if (threads > 0) set_thread_count(threads);
  return thread_count();
}

Dtype BenchOptions::dtype() const {
  return precision == "fp32" ? Dtype::f32 : precision == "fp16" ? Dtype::f16 : Dtype::bf16;
}

double median_seconds(const std::function<void()>& call, double budget) {
  using Clock = std::chrono::steady_clock;
  call();
  std::vector<double> seconds;
  double total = 0;
  while (seconds.size() < 3 || (total < budget && seconds.size() < 1000)) {
    const auto start = Clock::now();
    call();
    seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    total += seconds.back();
  }
  const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  return *middle;
}

double copy_ceiling_gbs() {
  Stream stream{Device{}};
  const std::int64_t n = std::int64_t{48} << 20;
  const Tensor a = Tensor::empty({n}, Dtype::f32), b = Tensor::empty({n}, Dtype::f32);
  a.fill(1);
  return 8e-9 * static_cast<double>(n) / median_seconds([&] { ops::copy(stream, a, b); });
}

void add_bench(CLI::App& app, Action& action) {
  auto* group = subcommand(app, "bench", "Figures, beside the limit of this machine", "dujiang bench gemm --threads 2");
  group->require_subcommand(1);
  auto options = std::make_shared<BenchOptions>();

  auto* gemm = subcommand(*group, "gemm", "The matrix products of one training step",
                          "dujiang bench gemm --preset 100m --precision bf16 --threads 2");
  options->add_to(*gemm, true);
  gemm->callback([=, &action] { action = [=] { return bench_gemm(*options); }; });

  auto* ops = subcommand(*group, "ops", "All other ops of one training step, beside the rate of a copy",
                         "dujiang bench ops --preset 100m --json");
  options->add_to(*ops, true);
  ops->callback([=, &action] { action = [=] { return bench_ops(*options); }; });

  auto* training = subcommand(*group, "train", "Whole training steps of a fixed model on random tokens",
                              "mpirun -n 2 dujiang bench train --preset 100m --threads 1 --zero 1 --json");
  options->add_to(*training, true);
  training->add_option("--steps", options->steps, "Steps to count; 0: six")->check(CLI::NonNegativeNumber);
  training->add_option("--micro-batch", options->micro_batch, "Sequences per rank along dp and step; 0: the preset's")
      ->check(CLI::NonNegativeNumber);
  training->add_option("--tensor", options->tensor, "parallel.tensor")->check(CLI::PositiveNumber);
  training->add_flag("--sequence-parallel", options->sequence_parallel, "parallel.sequence");
  training->add_option("--zero", options->zero, "parallel.zero")->check(CLI::Range(0, 3));
  training->add_option("--recompute", options->recompute, "train.recompute")
      ->check(CLI::IsMember({"none", "elementwise", "attention", "block"}));
  training->add_option("--moments", options->moments, "optimizer.moments")->check(CLI::IsMember({"fp32", "bf16"}));
  training->add_flag("--strict", options->strict, "train.strict");
  training->add_flag("--alone", options->alone,
                     "Every rank trains by itself: the same step without communication, to compare with");
  training
      ->add_option(
          "--profile", options->trace,
          "Also list the ops of a step of rank 0: time, GFLOP/s, GB/s and the share of the limit, which is the "
          "measured rate of products or that of copies, whichever allows less. Writes every call to FILE "
          "(profile.json) for chrome://tracing or Perfetto")
      ->type_name("[FILE]")
      ->expected(0, 1)
      ->default_str("profile.json");
  training->callback([=, &action] { action = [=] { return bench_train(*options); }; });

  auto* generating = subcommand(*group, "generate", "Text from prompts of made-up tokens, always the likeliest token",
                                "dujiang bench generate --preset 100m --batch 8 --threads 2");
  options->add_to(*generating, true);
  generating->add_option("--model", options->folder, "A model directory instead of the preset with random weights");
  generating->add_option("--batch", options->sequences, "Prompts that are continued at once")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  generating->add_option("--prompt", options->prompt, "Tokens of each prompt: (1 + 7919 i) modulo the vocabulary")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  generating->add_option("--new", options->new_tokens, "New tokens of each")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  generating->callback([=, &action] { action = [=] { return bench_generate(*options); }; });

  auto comm_options = std::make_shared<BenchCommOptions>();
  auto* comm = subcommand(*group, "comm", "Collective operations, beside plain MPI and the rate of copies",
                          "mpirun -n 2 dujiang bench comm --ops all_reduce --max-bytes 16777216");
  comm_options->add_to(*comm);
  comm->callback([=, &action] { action = [=] { return bench_comm(*comm_options); }; });

  auto* loader = subcommand(*group, "loader", "Tokens per second from shards to batches",
                            "dujiang bench loader --data runs/quickstart/data");
  options->add_to(*loader, false);
  loader->add_option("--data", options->folder, "A dataset; without it, one of random tokens is made and removed");
  loader->add_option("--sequence-length", options->sequence, "Tokens per sequence")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  loader->add_option("--batch", options->batch, "Sequences per batch")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  loader->callback([=, &action] { action = [=] { return bench_loader(*options); }; });

  auto* tokenizer = subcommand(*group, "tokenizer", "Text to token ids and back, by number of threads",
                               "dujiang bench tokenizer --tokenizer runs/quickstart/tokenizer --text poems.txt");
  options->add_to(*tokenizer, false);
  tokenizer->add_option("--tokenizer", options->folder, "A directory with a tokenizer")->required();
  tokenizer->add_option("--text", options->file, "UTF-8 text")->required();
  tokenizer->callback([=, &action] { action = [=] { return bench_tokenizer(*options); }; });
}

}  // namespace dujiang::launch
