#include "framework/train/config_values.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

namespace dujiang::train::config_values {

namespace {

// yaml-cpp gives quoted scalars the tag "!".
bool is_plain(const YAML::Node& node) {
  return node.IsScalar() && node.Tag() != "!";
}

template <class T>
bool parse_number(std::string_view word, T& out) {
  const auto [stop, error] = std::from_chars(word.data(), word.data() + word.size(), out);
  return error == std::errc() && stop == word.data() + word.size();
}

template <class T>
bool parse_plain_number(const YAML::Node& node, T& out) {
  return is_plain(node) && parse_number(std::string_view(node.Scalar()), out);
}

template <class T>
bool parse_list(const YAML::Node& node, std::vector<T>& out) {
  if (!node.IsSequence()) return false;
  out.clear();
  for (const auto& item : node) {
    if (!parse(item, out.emplace_back())) return false;
  }
  return true;
}

template <class List>
std::string join(const List& list) {
  std::string out;
  for (const auto& item : list) out += (out.empty() ? "" : ", ") + text(item);
  return "[" + out + "]";
}

struct Unit {
  std::string_view word;
  std::int64_t milliseconds;
};
constexpr Unit units[] = {{"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}};

// Text that every YAML reader takes for a string without quotes.
bool needs_no_quotes(const std::string& value) {
  const auto letter = [](unsigned char c) { return std::isalpha(c) || c >= 0x80 || c == '_' || c == '/'; };
  if (value.empty() || !letter(static_cast<unsigned char>(value[0]))) return false;
  for (unsigned char c : value) {
    if (!letter(c) && !std::isdigit(c) && c != '.' && c != '-') return false;
  }
  for (const char* word : {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}) {
    if (std::equal(value.begin(), value.end(), word, word + std::strlen(word),
                   [](unsigned char a, char b) { return std::tolower(a) == b; })) {
      return false;
    }
  }
  return true;
}

}  // namespace

std::string either(const std::vector<std::string>& words) {
  std::string out;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) out += i + 1 == words.size() ? " or " : ", ";
    out += words[i];
  }
  return out;
}

std::string describe(const YAML::Node& node) {
  if (!node.IsDefined() || node.IsNull()) return "nothing";
  if (node.IsSequence()) return "a list";
  if (node.IsMap()) return "a mapping";
  return node.Tag() == "!" ? fmt::format("the quoted text '{}'", node.Scalar()) : fmt::format("'{}'", node.Scalar());
}

bool parse(const YAML::Node& node, std::int64_t& out) {
  return parse_plain_number(node, out);
}
bool parse(const YAML::Node& node, int& out) {
  return parse_plain_number(node, out);
}
bool parse(const YAML::Node& node, std::uint32_t& out) {
  return parse_plain_number(node, out);
}
bool parse(const YAML::Node& node, std::uint64_t& out) {
  return parse_plain_number(node, out);
}
bool parse(const YAML::Node& node, double& out) {
  if (is_plain(node) && node.Scalar() == "off") {
    out = std::numeric_limits<double>::infinity();
    return true;
  }
  return parse_plain_number(node, out) && std::isfinite(out);
}
bool parse(const YAML::Node& node, bool& out) {
  if (!is_plain(node) || (node.Scalar() != "true" && node.Scalar() != "false")) return false;
  out = node.Scalar() == "true";
  return true;
}
bool parse(const YAML::Node& node, std::string& out) {
  if (!node.IsScalar()) return false;
  out = node.Scalar();
  return true;
}
bool parse(const YAML::Node& node, std::chrono::milliseconds& out) {
  if (!node.IsScalar()) return false;
  const std::string_view word = node.Scalar();
  const std::size_t digits = std::min(word.find_first_not_of("0123456789"), word.size());
  for (const Unit& unit : units) {
    std::int64_t count = 0;
    if (word.substr(digits) != unit.word || !parse_number(word.substr(0, digits), count)) continue;
    if (count > std::numeric_limits<std::int64_t>::max() / unit.milliseconds) return false;
    out = std::chrono::milliseconds(count * unit.milliseconds);
    return true;
  }
  return false;
}
bool parse(const YAML::Node& node, std::array<double, 2>& out) {
  return node.IsSequence() && node.size() == 2 && parse(node[0], out[0]) && parse(node[1], out[1]);
}
bool parse(const YAML::Node& node, std::vector<std::string>& out) {
  return parse_list(node, out);
}
bool parse(const YAML::Node& node, std::vector<std::int64_t>& out) {
  out.assign(1, 0);
  return parse(node, out[0]) || parse_list(node, out);
}
bool parse(const YAML::Node& node, std::vector<double>& out) {
  out.assign(1, 0.0);
  return parse(node, out[0]) || parse_list(node, out);
}
bool parse(const YAML::Node& node, std::vector<data::GramLimit>& out) {
  if (!node.IsMap()) return false;
  out.clear();
  for (const auto& item : node) {
    data::GramLimit limit{};
    if (!parse(item.first, limit.n) || limit.n < 2 || !parse(item.second, limit.limit)) return false;
    out.push_back(limit);
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.n < b.n; });
  return true;
}

std::string text(std::int64_t value) {
  return fmt::format("{}", value);
}
std::string text(int value) {
  return fmt::format("{}", value);
}
std::string text(std::uint32_t value) {
  return fmt::format("{}", value);
}
std::string text(const std::vector<data::GramLimit>& value) {
  std::string out;
  for (const auto& limit : value) out += fmt::format("{}{}: {}", out.empty() ? "" : ", ", limit.n, text(limit.limit));
  return "{" + out + "}";
}
std::string text(std::uint64_t value) {
  return fmt::format("{}", value);
}
std::string text(double value) {
  return std::isinf(value) ? "off" : fmt::format("{}", value);  // the shortest digits that give the value back
}
std::string text(bool value) {
  return value ? "true" : "false";
}
std::string text(const std::string& value) {
  // A JSON string is a YAML one.
  return needs_no_quotes(value) ? value
                                : nlohmann::json(value).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}
std::string text(std::chrono::milliseconds value) {
  if (value.count() % 1000 == 0) return fmt::format("{}s", value.count() / 1000);
  return fmt::format("{}ms", value.count());
}
std::string text(const std::array<double, 2>& value) {
  return join(value);
}
std::string text(const std::vector<std::string>& value) {
  return join(value);
}
std::string text(const std::vector<std::int64_t>& value) {
  return join(value);
}
std::string text(const std::vector<double>& value) {
  return join(value);
}

}  // namespace dujiang::train::config_values
