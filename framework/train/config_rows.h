#pragma once
// How rows of the config's table are made: checks of values, ROW and LIST. Internal to the config.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "framework/train/config_table.h"

namespace dujiang::train::config_table {

using config_values::either;

// What `off` reads as: no value of a setting that can't be off.
inline constexpr double infinite = std::numeric_limits<double>::infinity();

// Checks: what a value must be beyond its type.
struct Any {
  std::string expected() const { return ""; }
  bool operator()(const auto&) const { return true; }
};
struct AtLeast {
  double low;
  std::string expected() const { return fmt::format("at least {}", low); }
  bool operator()(const auto& v) const { return static_cast<double>(v) >= low && static_cast<double>(v) < infinite; }
};
struct Above {
  double low;
  std::string expected() const { return fmt::format("above {}", low); }
  bool operator()(const auto& v) const { return static_cast<double>(v) > low && static_cast<double>(v) < infinite; }
};
struct Below {  // [low, high)
  double low, high;
  std::string expected() const { return fmt::format("at least {} and below {}", low, high); }
  bool operator()(const std::array<double, 2>& v) const { return (*this)(v[0]) && (*this)(v[1]); }
  bool operator()(double v) const { return v >= low && v < high; }
};
struct UpTo {  // [0, high]
  double high;
  std::string expected() const { return fmt::format("from 0 to {}", high); }
  bool operator()(double v) const { return v >= 0 && v <= high; }
};
struct Share {  // (0, 1]
  std::string expected() const { return "above 0 and at most 1"; }
  bool operator()(double v) const { return v > 0 && v <= 1; }
};
struct Positive {
  std::string expected() const { return "above 0"; }
  bool operator()(std::chrono::milliseconds v) const { return v.count() > 0; }
};
struct PowerOfTwo {
  std::string expected() const { return "a power of two"; }
  bool operator()(std::int64_t v) const { return v >= 1 && (v & (v - 1)) == 0; }
};
struct Stage {
  std::string expected() const { return "from 0 to 3"; }
  bool operator()(std::int64_t v) const { return v >= 0 && v <= 3; }
};
struct NotEmpty {
  std::string expected() const { return "not empty"; }
  bool operator()(const auto& v) const { return !v.empty(); }
};
struct FolderName {
  std::string expected() const { return "usable as a folder's name: not empty, no '/', no leading '.'"; }
  bool operator()(const std::string& v) const { return !v.empty() && v[0] != '.' && v.find('/') == v.npos; }
};
struct OneOf {
  std::vector<std::string> words;
  std::string expected() const { return either(words); }
  bool operator()(const std::string& v) const { return std::find(words.begin(), words.end(), v) != words.end(); }
};
template <class T>
struct Only {
  T value;
  const char* why;
  std::string expected() const { return fmt::format("{} ({})", config_values::text(value), why); }
  bool operator()(const auto& v) const { return v == value; }
};
template <class T>
Only(T, const char*) -> Only<T>;

// Optional values are checked when they are there.
template <class T>
bool holds(const auto& check, const T& value) {
  return check(value);
}
template <class T>
bool holds(const auto& check, const std::optional<T>& value) {
  return !value || check(*value);
}

/// A row for the member that `get` finds.
template <class S, class Get, class Check>
Field<S> row(std::string key, Get get, unsigned needed, Check check, std::string doc) {
  using T = std::remove_cvref_t<decltype(get(std::declval<S&>()))>;
  Field<S> field{
      std::move(key), config_values::expected(static_cast<const T*>(nullptr)), std::move(doc), needed, {}, {}};
  const std::string limit = check.expected();
  if constexpr (
      requires { check.words; } || requires { check.why; }) {
    field.expected = limit;
  } else if (!limit.empty()) {
    field.expected += ", " + limit;
  }
  field.read = [get, check, expected = field.expected](const YAML::Node& node, const std::string& path, S& out,
                                                       Reading& reading) {
    T value{};
    if (config_values::parse(node, value) && holds(check, value)) {
      get(out) = std::move(value);
    } else {
      reading.fault(node, path, fmt::format("expected {}, found {}", expected, config_values::describe(node)));
    }
  };
  field.text = [get](const S& s) { return config_values::text(get(s)); };
  return field;
}

/// A row for a list of structs, each a mapping with the keys of `items`.
template <class Item, class Get>
Field<Config> list(std::string key, Get get, unsigned needed, const Table<Item>& (*items)(), std::string doc) {
  Field<Config> field{std::move(key), "a list of mappings", std::move(doc), needed, {}, {}};
  field.read = [get, items](const YAML::Node& node, const std::string& path, Config& out, Reading& reading) {
    if (!node.IsSequence()) {
      reading.fault(node, path, fmt::format("expected a list of mappings, found {}", config_values::describe(node)));
      return;
    }
    std::vector<Item>& target = get(out);
    target.clear();
    for (std::size_t i = 0; i < node.size(); ++i) {
      const std::string item_path = fmt::format("{}[{}]", path, i);
      target.emplace_back();
      if (!node[i].IsMap()) {
        reading.fault(node[i], item_path,
                      fmt::format("expected a mapping, found {}", config_values::describe(node[i])));
        continue;
      }
      if constexpr (requires { target.back().begin(node[i]); }) target.back().begin(node[i]);
      read_mapping(node[i], item_path + ".", "", items(), target.back(), reading);
      for (const auto& needed_row : items()) {
        if (needed_row.needed != never && !reading.seen(item_path + "." + needed_row.key)) {
          reading.fault(node[i], item_path, fmt::format("{} is missing ({})", needed_row.key, needed_row.doc));
        }
      }
    }
  };
  field.text = [get, items](const Config& config) {
    std::string out;
    for (const Item& item : get(config)) {
      std::string one;
      for (const auto& f : items()) one += fmt::format("{}{}: {}", one.empty() ? "" : ", ", f.key, f.text(item));
      out += fmt::format("{}\n    {{{}}}", out.empty() ? "" : ",", one);
    }
    return "[" + out + "]";
  };
  return field;
}

// The key of a row is the member's name, so that the two cannot drift apart.
#define ROW(S, member, ...) \
  row<S>(                   \
      #member, [](auto& s) -> auto& { return s.member; }, __VA_ARGS__)
#define LIST(member, ...) \
  list(                   \
      #member, [](auto& s) -> auto& { return s.member; }, __VA_ARGS__)

}  // namespace dujiang::train::config_table
