#include "data/corpus/dedup/work.h"

#include <algorithm>
#include <string>

namespace dujiang::data {

std::filesystem::path DedupWork::file(std::string_view phase, std::uint64_t task) const {
  return folder / phase / std::to_string(task);
}

std::filesystem::path DedupWork::scratch(std::string_view phase, std::uint64_t task) const {
  return folder / phase / (std::to_string(task) + ".sort");
}

std::uint32_t partitions_for(std::uint64_t pieces) {
  return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(pieces / 4, 16, 1024));
}

void run_phases(const std::vector<Phase>& phases, const Runner& runner) {
  for (const auto& phase : phases) {
    runner(phase.tasks, [&](std::uint64_t task) {
      if (!std::filesystem::exists(phase.output(task))) phase.run(task);
    });
  }
}

}  // namespace dujiang::data
