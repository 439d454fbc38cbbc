#include "framework/train/config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fnmatch.h>

#include <algorithm>
#include <functional>

#include "framework/base/check.h"
#include "framework/train/config_checks.h"
#include "framework/train/config_table.h"

namespace dujiang::train {

using config_table::Reading;

namespace {

// "a.b=value" as the mapping {a: {b: value}}.
YAML::Node parse_override(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == 0 || equals == std::string::npos) throw YAML::Exception({}, "expected key.path=value");
  YAML::Node node = YAML::Load(text.substr(equals + 1));
  std::string path = text.substr(0, equals);
  while (!path.empty()) {
    const std::size_t dot = path.rfind('.');
    YAML::Node parent;
    parent[dot == std::string::npos ? path : path.substr(dot + 1)] = node;
    node.reset(parent);
    path = dot == std::string::npos ? "" : path.substr(0, dot);
  }
  return node;
}

void read_file(const std::filesystem::path& path, Config& config, Reading& reading) {
  std::vector<YAML::Node> documents;
  try {
    documents = YAML::LoadAllFromFile(path.string());
  } catch (const YAML::BadFile&) {
    return reading.file_fault("cannot be read");
  } catch (const YAML::ParserException& e) {
    return reading.file_fault("not YAML: " + e.msg, e.mark);
  }
  if (documents.size() > 1) reading.file_fault("a second YAML document: expected one in a file", documents[1].Mark());
  if (documents.empty() || documents[0].IsNull()) return;
  if (!documents[0].IsMap()) {
    return reading.file_fault(
        fmt::format("expected sections and their keys, found {}", config_values::describe(documents[0])),
        documents[0].Mark());
  }
  config_table::read_mapping(documents[0], "", "", config_table::fields(), config, reading);
}

Config read(const std::filesystem::path& path, const std::vector<std::string>& overrides, Purpose purpose,
            std::vector<Fault>& faults) {
  Config config;
  Reading reading(path.string());
  read_file(path, config, reading);
  const bool readable = reading.faults().empty() || reading.seen_any();
  reading.enter_command_line();
  for (const std::string& text : overrides) {
    try {
      config_table::read_mapping(parse_override(text), "", "", config_table::fields(), config, reading);
    } catch (const YAML::Exception& e) {
      reading.file_fault(fmt::format("'{}': {}", text, e.msg));
    }
  }
  if (readable) {
    config_checks::check_missing(config, purpose, reading);
    config_checks::resolve_model(config, purpose, reading);
    config_checks::check_relations(config, purpose, reading);
  }

  faults = reading.faults();
  return config;
}

}  // namespace

std::string_view name_of(Precision precision) {
  return config_values::Words<Precision>::all[static_cast<std::size_t>(precision)].first;
}
std::string_view name_of(ScheduleName schedule) {
  return config_values::Words<ScheduleName>::all[static_cast<std::size_t>(schedule)].first;
}

std::string_view name_of(Recompute recompute) {
  return config_values::Words<Recompute>::all[static_cast<std::size_t>(recompute)].first;
}

bool path_matches(const std::string& pattern, const std::string& path) {
  return ::fnmatch(pattern.c_str(), path.c_str(), 0) == 0;
}

std::filesystem::path Config::run_directory() const {
  return log.dir.empty() ? std::filesystem::path("runs") / name : std::filesystem::path(log.dir);
}

std::string Fault::str() const {
  return line == 0 ? fmt::format("{}: {}", file, message) : fmt::format("{}:{}:{}: {}", file, line, column, message);
}

std::vector<Fault> check_config(const std::filesystem::path& path, const std::vector<std::string>& overrides,
                                Purpose purpose) {
  std::vector<Fault> faults;
  read(path, overrides, purpose, faults);
  return faults;
}

Config load_config(const std::filesystem::path& path, const std::vector<std::string>& overrides, Purpose purpose) {
  std::vector<Fault> faults;
  Config config = read(path, overrides, purpose, faults);
  if (!faults.empty()) {
    std::vector<std::string> lines;
    for (const Fault& fault : faults) lines.push_back(fault.str());
    fail_user("{}", fmt::join(lines, "\n"));
  }
  return config;
}

namespace {

// Walks the table's keys as the nested sections they form. `line(depth, name, field)` has no field for a section.
void for_each_key(
    const std::function<void(std::size_t, const std::string&, const config_table::Field<Config>*)>& line) {
  std::vector<std::string> open;
  for (const auto& field : config_table::fields()) {
    std::vector<std::string> parts;
    std::size_t at = 0;
    for (std::size_t dot; (dot = field.key.find('.', at)) != std::string::npos; at = dot + 1) {
      parts.push_back(field.key.substr(at, dot - at));
    }
    const std::string name = field.key.substr(at);
    std::size_t depth = 0;
    while (depth < parts.size() && depth < open.size() && parts[depth] == open[depth]) ++depth;
    for (; depth < parts.size(); ++depth) line(depth, parts[depth], nullptr);
    open = parts;
    line(depth, name, &field);
  }
}

std::string needed_for(unsigned purposes) {
  if (purposes == config_table::always) return "needed";
  std::vector<std::string> uses;
  if (purposes & config_table::for_training) uses.push_back("train");
  if (purposes & config_table::for_data) uses.push_back("build data");
  if (purposes & config_table::for_tokenizer) uses.push_back("train a tokenizer");
  return "needed to " + fmt::format("{}", fmt::join(uses, " and to "));
}

}  // namespace

std::string to_yaml(const Config& config) {
  std::string out;
  for_each_key([&](std::size_t depth, const std::string& name, const config_table::Field<Config>* field) {
    const std::string indent(2 * depth, ' ');
    if (!field) {
      out += fmt::format("{}{}:\n", indent, name);
    } else if (field->key == "model.from" ? !config.model.from.empty()
                                          : config.model.from.empty() || !field->key.starts_with("model.")) {
      out += fmt::format("{}{}: {}\n", indent, name, field->text(config));
    }
  });
  return out;
}

std::vector<std::string> data_settings(const Config& config) {
  std::vector<std::string> out;
  for (const auto& field : config_table::fields()) {
    const bool loading = field.key == "data.sequence_length" || field.key == "data.packing" ||
                         field.key == "data.shard_tokens" || field.key.starts_with("data.blend") ||
                         field.key == "data.growth" || field.key == "data.verify" || field.key == "data.path";
    if (field.key.starts_with("data.") && !loading) out.push_back(fmt::format("{}: {}", field.key, field.text(config)));
  }
  return out;
}

std::string config_reference() {
  std::string out = "Keys of a config, with what each expects, its default and its meaning.\n";
  const Config defaults;
  const auto describe = [&](const std::string& indent, const std::string& name, const auto& field, const auto& value) {
    const std::string initial = field.needed ? needed_for(field.needed) : "default " + field.text(value);
    out += fmt::format("{}{:<{}} {}\n{:{}}{}; {}\n", indent, name + ":", 28 - indent.size(), field.doc, "", 29,
                       field.expected, initial);
  };
  for_each_key([&](std::size_t depth, const std::string& name, const config_table::Field<Config>* field) {
    const std::string indent(2 * depth, ' ');
    if (!field) {
      out += fmt::format("{}{}{}:\n", depth == 0 ? "\n" : "", indent, name);
      return;
    }
    describe(indent, name, *field, defaults);
    const auto items = [&](const auto& table, const auto& item) {
      for (const auto& item_field : table) describe(indent + "  - ", item_field.key, item_field, item);
    };
    if (field->key == "data.blend") items(config_table::blend_fields(), BlendSection{});
    if (field->key == "data.sources") items(config_table::source_fields(), SourceSection{});
    if (field->key == "data.profiles") items(config_table::profile_fields(), ProfileSection{});
    if (field->key == "data.words") items(config_table::word_fields(), data::WordListConfig{});
    if (field->key == "data.contamination.evaluations")
      items(config_table::evaluation_fields(), data::EvaluationConfig{});
    if (field->key == "optimizer.groups") items(config_table::group_fields(), ParameterGroup{});
  });
  return out;
}

}  // namespace dujiang::train
