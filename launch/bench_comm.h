#pragma once
// `dujiang bench comm`: collective operations beside plain MPI.

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "launch/command.h"

namespace dujiang::launch {

struct BenchCommOptions {
  std::vector<std::string> ops = {"all_reduce", "reduce_scatter", "all_gather", "broadcast", "reduce", "all_to_all"};
  std::vector<std::string> dtypes = {"f32", "bf16"};
  std::string memory = "both";  ///< allocated, ordinary, both
  std::int64_t min_bytes = 8, max_bytes = 256 << 20;
  int factor = 4;
  double budget = 0.5;  ///< seconds a row, once for each side
  Report report;

  void add_to(CLI::App& command);
};

int bench_comm(const BenchCommOptions& options);

}  // namespace dujiang::launch
