#pragma once
// What a row of the config's table is, and how a YAML mapping is read by such rows. Internal to the config.

#include <yaml-cpp/yaml.h>

#include <functional>
#include <initializer_list>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "framework/train/config_values.h"

namespace dujiang::train::config_table {

/// Which purposes need a key: a sum of these.
enum Needed : unsigned { never = 0, for_training = 1, for_data = 2, for_tokenizer = 4, always = 7 };

/// Faults as they are found, and where each key stood.
class Reading {
 public:
  struct Place {
    std::string file;
    int line = 0, column = 0;
  };

  explicit Reading(std::string file) : file_(file), main_file_(std::move(file)) {}

  /// What is read from now on is an override.
  void enter_command_line() {
    command_line_ = true;
    file_ = "command line";
  }

  void mark(const std::string& key, const YAML::Node& node) { places_[key] = place(node.Mark()); }
  bool seen(const std::string& key) const { return places_.contains(key); }
  bool seen_any() const { return !places_.empty(); }
  /// Of the file as a whole, or of a place in it where there is no key.
  void file_fault(const std::string& message, YAML::Mark mark = YAML::Mark::null_mark());
  /// Of the value `node` of a key. The message follows the key.
  void fault(const YAML::Node& node, const std::string& key, const std::string& message);

  /// At the key; where it is missing, at the section it belongs to.
  void fault_at(const std::string& key, const std::string& message);
  /// True when none of the keys, nor any below them, has had a fault: what they say may be compared.
  bool sound(std::initializer_list<std::string_view> keys) const;

  /// In the order of the file, the command line's last.
  std::vector<Fault> faults() const;

 private:
  Place place(const YAML::Mark& mark) const;
  void add(const Place& place, const std::string& message);

  bool command_line_ = false;
  std::string file_, main_file_;
  std::map<std::string, Place> places_;
  std::vector<Fault> faults_;
  std::set<std::string> faulty_;
};

/// One key: how it is read, written and explained. S is the struct it belongs to.
template <class S>
struct Field {
  std::string key;       ///< relative to the struct; dots lead into sections
  std::string expected;  ///< what a value must be
  std::string doc;
  unsigned needed = never;
  std::function<void(const YAML::Node&, const std::string& path, S&, Reading&)> read;
  std::function<std::string(const S&)> text;
};
template <class S>
using Table = std::vector<Field<S>>;

const Table<Config>& fields();
const Table<BlendSection>& blend_fields();
const Table<SourceSection>& source_fields();
const Table<ProfileSection>& profile_fields();
const Table<data::WordListConfig>& word_fields();
const Table<data::EvaluationConfig>& evaluation_fields();
const Table<ParameterGroup>& group_fields();
/// Those of `fields` below data, but for the settings of loading.
Table<Config> data_fields();

/// Reports an unknown key and proposes the nearest of its `siblings`, else a key of another section.
void report_unknown(const YAML::Node& key, const std::string& path, const std::set<std::string>& siblings,
                    Reading& reading);

/// Reads the mapping `node` into `out`. `path` names it in messages (empty, or ending in a dot); `prefix` is the part
/// of the rows' keys already passed.
template <class S>
void read_mapping(const YAML::Node& node, const std::string& path, const std::string& prefix, const Table<S>& table,
                  S& out, Reading& reading) {
  std::set<std::string> met;
  for (const auto& item : node) {
    const std::string name = item.first.IsScalar() ? item.first.Scalar() : config_values::describe(item.first);
    const std::string key = prefix + name, full = path + name;
    if (!met.insert(name).second) {
      reading.fault(item.first, full, "given twice");
      continue;
    }
    reading.mark(full, item.first);
    const Field<S>* field = nullptr;
    std::set<std::string> siblings;
    for (const auto& row : table) {
      if (row.key == key) field = &row;
      if (row.key.starts_with(prefix))
        siblings.insert(row.key.substr(prefix.size(), row.key.find('.', prefix.size()) - prefix.size()));
    }
    if (field) {
      field->read(item.second, full, out, reading);
    } else if (!siblings.contains(name)) {
      report_unknown(item.first, full, siblings, reading);
    } else if (item.second.IsMap()) {
      read_mapping(item.second, full + ".", key + ".", table, out, reading);
    } else if (!item.second.IsNull()) {
      reading.fault(item.second, full, "expected a section (a mapping), found " + config_values::describe(item.second));
    }
  }
}

}  // namespace dujiang::train::config_table
