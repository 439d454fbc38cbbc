#include "launch/bench_comm.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "comm/bench.h"
#include "comm/bootstrap.h"
#include "framework/base/check.h"

namespace dujiang::launch {
namespace {

// By name, among `known`.
template <class Value>
std::vector<Value> chosen(const std::vector<std::string>& names, const std::vector<Value>& known, const char* option) {
  std::vector<Value> values;
  for (const auto& name : names) {
    const auto value = std::find_if(known.begin(), known.end(), [&](Value v) { return name_of(v) == name; });
    if (value == known.end()) fail_user("{}: \"{}\" isn't among those that are measured", option, name);
    values.push_back(*value);
  }
  return values;
}

std::string line_of(const comm::BenchRow& row, int ranks) {
  const std::string beside =
      row.mpi_seconds > 0 ? fmt::format("{:>9.2f} {:>6.2f}x", static_cast<double>(row.bytes) / row.mpi_seconds * 1e-9,
                                        row.mpi_seconds / row.seconds)
                          : fmt::format("{:>9} {:>7}", "-", "-");
  return fmt::format("{:<15} {:<5} {:<9} {:>10} {:>11.1f} {:>9.2f} {:>9.2f} {} {:>9.2f} {:>6}\n", name_of(row.op),
                     name_of(row.dtype), row.allocated ? "allocated" : "ordinary", row.bytes, row.seconds * 1e6,
                     row.algbw_gbs(), row.busbw_gbs(ranks), beside, row.limit_seconds / row.seconds, row.wrong);
}

nlohmann::json object_of(const comm::BenchRow& row, int ranks) {
  const double mpi = row.mpi_seconds > 0 ? static_cast<double>(row.bytes) / row.mpi_seconds * 1e-9 : 0;
  return {{"op", name_of(row.op)},
          {"dtype", name_of(row.dtype)},
          {"memory", row.allocated ? "allocated" : "ordinary"},
          {"bytes", row.bytes},
          {"ranks", ranks},
          {"microseconds", row.seconds * 1e6},
          {"algbw_gbs", row.algbw_gbs()},
          {"busbw_gbs", row.busbw_gbs(ranks)},
          {"mpi_algbw_gbs", mpi},
          {"share_of_limit", row.limit_seconds / row.seconds},
          {"wrong", row.wrong}};
}

}  // namespace

void BenchCommOptions::add_to(CLI::App& command) {
  command.add_option("--ops", ops, "The operations")->delimiter(',')->capture_default_str();
  command.add_option("--dtypes", dtypes, "f32, bf16")->delimiter(',')->capture_default_str();
  command.add_option("--memory", memory, "allocated (Communicator::allocate, as gradients are), ordinary, or both")
      ->check(CLI::IsMember({"allocated", "ordinary", "both"}))
      ->capture_default_str();
  command.add_option("--min-bytes", min_bytes, "The smallest size")->check(CLI::PositiveNumber)->capture_default_str();
  command.add_option("--max-bytes", max_bytes, "The largest size")->check(CLI::PositiveNumber)->capture_default_str();
  command.add_option("--factor", factor, "From one size to the next")
      ->check(CLI::Range(2, 1024))
      ->capture_default_str();
  command.add_option("--budget", budget, "Seconds for each row and side")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  report.add_option(command);
}

int bench_comm(const BenchCommOptions& options) {
  using comm::Op;
  const auto ops = chosen<Op>(
      options.ops, {Op::all_reduce, Op::reduce_scatter, Op::all_gather, Op::broadcast, Op::reduce, Op::all_to_all},
      "--ops");
  const auto dtypes = chosen<Dtype>(options.dtypes, {Dtype::f32, Dtype::bf16}, "--dtypes");
  const auto communicator = comm::make_communicator();
  comm::CommBench bench(*communicator);
  const int ranks = communicator->size();
  std::string text = fmt::format(
      "{}, {} ranks; copies on all ranks at once: {:.1f} GB/s. bytes: of a rank's larger buffer; limit: the bytes "
      "that\n"
      "must cross memory at that rate over the time taken (above 1 where they stay in caches)\n"
      "{:<15} {:<5} {:<9} {:>10} {:>11} {:>9} {:>9} {:>9} {:>7} {:>9} {:>6}\n",
      communicator->transport(), ranks, bench.copy_gbs(), "operation", "dtype", "memory", "bytes", "us", "algbw",
      "busbw", "MPI algbw", "ratio", "of limit", "wrong");
  nlohmann::json rows = nlohmann::json::array();
  std::vector<std::int64_t> sizes;  // up to the largest and with it
  for (std::int64_t n = options.min_bytes; n < options.max_bytes; n *= options.factor) sizes.push_back(n);
  sizes.push_back(options.max_bytes);
  std::int64_t wrong = 0;
  Progress progress;
  for (const Op op : ops) {
    for (const Dtype dtype : dtypes) {
      for (const std::int64_t bytes : sizes) {
        for (const bool allocated : {true, false}) {
          if (options.memory == (allocated ? "ordinary" : "allocated")) continue;
          const auto row = bench.run(op, dtype, bytes, allocated, options.budget);
          wrong += row.wrong;
          text += line_of(row, ranks);
          rows.push_back(object_of(row, ranks));
          if (communicator->rank() == 0) {
            progress.update([&] { return fmt::format("bench comm: {} of {} bytes", name_of(op), row.bytes); });
          }
        }
      }
    }
  }
  if (communicator->rank() == 0) {
    options.report.print(text, {{"transport", communicator->transport()},
                                {"ranks", ranks},
                                {"copy_gbs", bench.copy_gbs()},
                                {"rows", std::move(rows)}});
  }
  return wrong == 0 ? 0 : 1;
}

}  // namespace dujiang::launch
