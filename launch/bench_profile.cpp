#include "launch/bench_profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace dujiang::launch {
namespace {

constexpr double shown = 0.001;  // of a step, at least, to stand in the table

const OpProfile::Section& section_of(const OpProfile& profile, const std::string& name) {
  return *std::find_if(profile.sections().begin(), profile.sections().end(),
                       [&](const auto& section) { return section.name == name; });
}

}  // namespace

ProfileReport profile_report(const OpProfile& profile, double gemm_gflops, double copy_gbs) {
  const auto& step = section_of(profile, "step");
  const auto steps = static_cast<double>(step.calls);
  const double step_ms = step.seconds * 1e3 / steps;
  ProfileReport report;
  report.object = {{"step_ms", step_ms}, {"gemm_ceiling_gflops", gemm_gflops}, {"copy_ceiling_gbs", copy_gbs}};
  auto& rows = report.object["rows"] = nlohmann::json::array();
  auto& sections = report.object["sections"] = nlohmann::json::array();
  report.text = fmt::format(
      "\nOps of a step, means of {} steps; the limit: products at {:.0f} GFLOP/s, copies at {:.1f} GB/s. Products: "
      "a·bᵀ "
      "forward, a·b input\ngradients, aᵀ·b weight gradients; m x n x k.\n{:<10} {:<24} {:<26} {:>7} {:>9} {:>6} {:>8} "
      "{:>7} "
      "{:>9}\n",
      step.calls, gemm_gflops, copy_gbs, "section", "op", "shape", "calls", "ms", "step", "GFLOP/s", "GB/s",
      "of limit");

  for (const auto& section : profile.sections()) {
    std::vector<OpProfile::Row> ops;
    for (const auto& row : profile.rows())
      if (row.section == section.name) ops.push_back(row);
    std::sort(ops.begin(), ops.end(), [](const auto& a, const auto& b) { return a.seconds > b.seconds; });
    double small_ms = 0, small_calls = 0;
    for (const auto& row : ops) {
      const double calls = static_cast<double>(row.calls) / steps, ms = row.seconds * 1e3 / steps;
      const double gflops = row.flops / steps / ms * 1e-6, gbs = row.bytes / steps / ms * 1e-6;
      const double of_products = gflops / gemm_gflops, of_copies = gbs / copy_gbs;
      const double share = std::max(of_products, of_copies);
      rows.push_back({{"section", row.section},
                      {"op", row.op},
                      {"shape", row.shape},
                      {"views", row.views},
                      {"calls_per_step", calls},
                      {"ms_per_step", ms},
                      {"flops_per_step", row.flops / steps},
                      {"bytes_per_step", row.bytes / steps},
                      {"gflops", gflops},
                      {"gbs", gbs},
                      {"limit", of_products > of_copies ? "products" : "copies"},
                      {"share_of_limit", share}});
      if (ms < shown * step_ms) {
        small_ms += ms;
        small_calls += calls;
        continue;
      }
      report.text += fmt::format("{:<10} {:<24} {:<26} {:>7.0f} {:>9.2f} {:>4.1f} % {:>8} {:>7.1f} {:>7.0f} %\n",
                                 row.section, row.op, row.shape, calls, ms, 100 * ms / step_ms,
                                 gflops > 0 ? fmt::format("{:.0f}", gflops) : "", gbs, 100 * share);
    }
    const double ms = section.seconds * 1e3 / steps, rest = section.rest * 1e3 / steps;
    if (small_calls > 0)
      report.text += fmt::format("{:<10} {:<24} {:<26} {:>7.0f} {:>9.2f} {:>4.1f} %\n", section.name, "smaller ones",
                                 "", small_calls, small_ms, 100 * small_ms / step_ms);
    report.text += fmt::format(
        "{:<10} {:<24} {:<26} {:>7} {:>9.2f} {:>4.1f} %\n{:<10} {:<24} {:<26} {:>7.0f} {:>9.2f} {:>4.1f} %\n\n",
        section.name, "in no op", "", "", rest, 100 * rest / step_ms, section.name, "all of it", "",
        static_cast<double>(section.calls) / steps, ms, 100 * ms / step_ms);
    sections.push_back({{"section", section.name}, {"ms_per_step", ms}, {"in_no_op_ms", rest}});
  }
  return report;
}

}  // namespace dujiang::launch
