#pragma once
// metrics.jsonl: one JSON object a step, flushed as it is written.

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

namespace dujiang::train {

class MetricsFile {
 public:
  /// Opens PATH for appending after its entries up to step `resumed` (later ones, of a run that was cut off after its
  /// last checkpoint, are dropped). UserError when it can't be written.
  MetricsFile(std::filesystem::path path, std::int64_t resumed);
  void write(const nlohmann::ordered_json& entry);

 private:
  std::filesystem::path path_;
  std::ofstream out_;
};

}  // namespace dujiang::train
