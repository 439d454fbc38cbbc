#include "data/corpus/pipeline/input_plan.h"

#include <sys/stat.h>
#include <xxhash.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "framework/base/check.h"
#include "framework/base/files.h"

namespace dujiang::data {

using nlohmann::json;

bool look_at(InputFile& file) {
  struct stat status {};
  if (::stat(file.path.c_str(), &status) != 0) return false;
  file.bytes = static_cast<std::uint64_t>(status.st_size);
  file.modified = std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
  return true;
}

void InputPlan::cut(std::uint64_t unit_bytes) {
  starts_.clear();
  std::uint64_t bytes = 0;
  for (std::size_t f = 0; f < files.size(); ++f) {
    if (f == 0 || bytes >= unit_bytes || files[f].source != files[f - 1].source) {
      starts_.push_back(f);
      bytes = 0;
    }
    bytes += files[f].bytes;
  }
  starts_.push_back(files.size());
}

std::uint64_t InputPlan::stamp(std::size_t u) const {
  std::vector<std::uint64_t> seen;
  for (InputFile file : unit(u)) {
    if (!look_at(file)) file.bytes = ~std::uint64_t{0};
    seen.push_back(file.bytes);
    seen.push_back(static_cast<std::uint64_t>(file.modified));
  }
  return XXH3_64bits(seen.data(), seen.size() * sizeof seen[0]);
}

// Names of files are bytes and need not be UTF-8, so that JSON's strings can't hold them: CBOR's byte strings do.
namespace {

json json_of(const std::string& bytes) {
  return json::binary({bytes.begin(), bytes.end()});
}
std::string bytes_of(const json& value) {
  const auto& binary = value.get_binary();
  return {binary.begin(), binary.end()};
}

}  // namespace

void write_plan(const std::filesystem::path& path, const InputPlan& plan) {
  json files = json::array(), faults = json::array();
  for (const InputFile& file : plan.files)
    files.push_back({json_of(file.path), file.source, file.bytes, file.modified});
  for (const FileFault& fault : plan.faults)
    faults.push_back({json_of(fault.path), fault.offset, fault.rule, fault.message});
  const auto bytes = json::to_cbor({{"files", files}, {"faults", faults}});
  write_file(path, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

InputPlan read_plan(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  InputPlan plan;
  try {
    const json object = json::from_cbor(in);
    for (const json& file : object.at("files"))
      plan.files.push_back({bytes_of(file.at(0)), file.at(1), file.at(2), file.at(3)});
    for (const json& fault : object.at("faults"))
      plan.faults.push_back({bytes_of(fault.at(0)), fault.at(1), fault.at(2), fault.at(3)});
  } catch (const json::exception& error) {
    fail_user("{}: cannot be read ({}): remove the folder {} and build anew", path.string(), error.what(),
              path.parent_path().string());
  }
  return plan;
}

}  // namespace dujiang::data
