#include "framework/train/device_figures.h"

#include <fmt/ranges.h>
#include <yaml-cpp/yaml.h>

#include <vector>

#include "framework/base/check.h"

namespace dujiang::train {
namespace {

constexpr double gib = 1024.0 * 1024.0 * 1024.0;

// A positive number of a map, named in errors.
double number(const YAML::Node& map, const char* field, const std::string& where) {
  const YAML::Node node = map[field];
  if (!node) fail_user("{}: {} is missing", where, field);
  double value = 0;
  try {
    value = node.as<double>();
  } catch (const YAML::Exception&) {
    fail_user("{}: {}: expected a number, found '{}'", where, field, node.IsScalar() ? node.Scalar() : "a list or map");
  }
  if (!(value > 0)) fail_user("{}: {}: expected a number above 0, found {}", where, field, value);
  return value;
}

}  // namespace

DeviceFigures read_device(const std::string& text, const std::string& origin, const std::string& key,
                          const HostFigures& host) {
  YAML::Node root;
  try {
    root = YAML::Load(text);
  } catch (const YAML::Exception& error) {
    fail_user("{}: not YAML: {}", origin, error.what());
  }
  if (!root.IsMap() || !root["devices"] || !root["devices"].IsMap())
    fail_user("{}: expected a map `devices` of devices by name", origin);
  const YAML::Node device = root["devices"][key];
  if (!device) {
    std::vector<std::string> known;
    for (const auto& entry : root["devices"]) known.push_back(entry.first.as<std::string>());
    fail_user("--device {}: expected one of {} (from {})", key, fmt::join(known, ", "), origin);
  }
  const std::string where = fmt::format("{}: devices.{}", origin, key);
  if (!device["sources"] || !device["sources"].IsMap())
    fail_user("{}: sources is missing: say where each figure is from", where);
  DeviceFigures figures;
  figures.key = key;
  figures.name = device["name"] ? device["name"].as<std::string>() : key;
  figures.links = {.node_ranks = host.ranks,
                   .inside_bytes = host.bytes / 2,  // a copy reads and writes
                   .across_bytes = number(device, "across_gbs", where) * 1e9,
                   .inside_latency = number(device, "inside_us", where) * 1e-6,
                   .across_latency = number(device, "across_us", where) * 1e-6};
  const YAML::Node shares = device["reached"] ? device["reached"] : root["reached"];
  if (!shares || !shares.IsMap()) fail_user("{}: `reached` is missing, here and for all devices", where);
  const auto share = [&](const char* field) { return number(shares, field, origin + ": reached"); };
  figures.links.inside_bytes *= share("inside");
  figures.links.across_bytes *= share("across");
  if (key == "cpu") {
    figures.host = true;
    figures.memory = host.memory / host.ranks;
    figures.peak_half = host.half_flops;
    figures.peak_single = host.single_flops;
    figures.pace = {.half_flops = figures.peak_half * share("products"),
                    .single_flops = figures.peak_single * share("products"),
                    .attention_share = share("attention") / share("products"),
                    .bytes = host.bytes * share("memory")};
    return figures;
  }
  figures.memory = (number(device, "memory_gib", where) - number(device, "reserved_gib", where)) * gib;
  figures.peak_half = number(device, "bf16_tflops", where) * 1e12;
  figures.peak_single = number(device, "fp32_tflops", where) * 1e12;
  figures.pace = {.half_flops = figures.peak_half * share("products"),
                  .single_flops = figures.peak_single * share("products"),
                  .attention_share = share("attention") / share("products"),
                  .bytes = number(device, "memory_gbs", where) * 1e9 * share("memory"),
                  .call = 3e-6};
  figures.links.node_ranks = static_cast<int>(number(device, "node_devices", where));
  figures.links.inside_bytes = number(device, "inside_gbs", where) * 1e9 * share("inside");
  return figures;
}

}  // namespace dujiang::train
