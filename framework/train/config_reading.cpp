#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>
#include <tuple>
#include <utility>

#include "framework/train/config_table.h"

namespace dujiang::train::config_table {

namespace {

// Levenshtein's distance.
std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

std::string last_part(const std::string& key) {
  return key.substr(key.rfind('.') + 1);  // npos + 1 is 0
}

}  // namespace

Reading::Place Reading::place(const YAML::Mark& mark) const {
  // Overrides are parsed from pieces, so their marks say nothing.
  if (command_line_ || mark.is_null()) return {file_};
  return {file_, mark.line + 1, mark.column + 1};
}

void Reading::add(const Place& place, const std::string& message) {
  faults_.push_back({place.file, place.line, place.column, message});
}

void Reading::file_fault(const std::string& message, YAML::Mark mark) {
  add(place(mark), message);
}

void Reading::fault(const YAML::Node& node, const std::string& key, const std::string& message) {
  faulty_.insert(key);
  add(place(node.Mark()), key + ": " + message);
}

void Reading::fault_at(const std::string& key, const std::string& message) {
  faulty_.insert(key);
  const auto own = places_.find(key);
  const auto section = places_.find(key.substr(0, key.find('.')));
  const Place found = own != places_.end()       ? own->second
                      : section != places_.end() ? section->second
                                                 : Place{main_file_};
  add(found, key + ": " + message);
}

bool Reading::sound(std::initializer_list<std::string_view> keys) const {
  return std::none_of(faulty_.begin(), faulty_.end(), [&](const std::string& faulty) {
    return std::any_of(keys.begin(), keys.end(), [&](std::string_view key) {
      return faulty.starts_with(key) && (faulty.size() == key.size() || faulty[key.size()] == '.');
    });
  });
}

std::vector<Fault> Reading::faults() const {
  std::vector<Fault> sorted = faults_;
  std::stable_sort(sorted.begin(), sorted.end(), [&](const Fault& a, const Fault& b) {
    const auto rank = [&](const Fault& f) { return std::tuple(f.file != main_file_, f.line == 0, f.line, f.column); };
    return rank(a) < rank(b);
  });
  return sorted;
}

void report_unknown(const YAML::Node& key, const std::string& path, const std::set<std::string>& siblings,
                    Reading& reading) {
  const std::string name = last_part(path), section = path.substr(0, path.size() - name.size());
  // A key of this section, else one that would be right in another.
  std::string nearest;
  std::size_t distance = std::max<std::size_t>(2, name.size() / 3) + 1;
  const auto consider = [&](const std::string& candidate, const std::string& full) {
    const std::size_t d = edit_distance(name, candidate);
    if (d < distance) {
      distance = d;
      nearest = full;
    }
  };
  for (const auto& sibling : siblings) consider(sibling, section + sibling);
  if (nearest.empty()) {
    distance = 2;
    for (const auto& field : fields()) consider(last_part(field.key), field.key);
  }
  reading.fault(key, path,
                nearest.empty() ? fmt::format("unknown key; known here: {}", fmt::join(siblings, ", "))
                                : fmt::format("unknown key; did you mean {}?", nearest));
}

}  // namespace dujiang::train::config_table
