#include "framework/train/metrics.h"

#include "framework/base/check.h"

namespace dujiang::train {

MetricsFile::MetricsFile(std::filesystem::path path, std::int64_t resumed) : path_(std::move(path)) {
  std::string kept;
  if (resumed > 0) {
    std::ifstream in(path_);
    for (std::string line; std::getline(in, line);) {
      const auto entry = nlohmann::json::parse(line, nullptr, false);  // the last line may be cut off
      if (entry.is_object() && entry.value("step", resumed + 1) <= resumed) kept += line + "\n";
    }
  }
  out_.open(path_, std::ios::trunc);
  out_ << kept << std::flush;
  if (!out_) fail_user("{}: cannot be written", path_.string());
}

void MetricsFile::write(const nlohmann::ordered_json& entry) {
  out_ << entry.dump() << '\n' << std::flush;
  if (!out_) fail_user("{}: cannot be written (disk full?)", path_.string());
}

}  // namespace dujiang::train
