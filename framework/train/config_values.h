#pragma once
// One YAML value to one C++ value and back, for every type a config member may have. Internal to the config.

#include <yaml-cpp/yaml.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "framework/train/config.h"

namespace dujiang::train::config_values {

/// The words of an enum in YAML: a static array `all` of {word, value}.
template <class E>
struct Words;
template <>
struct Words<Precision> {
  static constexpr std::pair<std::string_view, Precision> all[] = {
      {"fp32", Precision::fp32}, {"bf16", Precision::bf16}, {"fp16", Precision::fp16}};
};
template <>
struct Words<Dtype> {  // those that state is kept in
  static constexpr std::pair<std::string_view, Dtype> all[] = {{"fp32", Dtype::f32}, {"bf16", Dtype::bf16}};
};
template <>
struct Words<ScheduleName> {
  static constexpr std::pair<std::string_view, ScheduleName> all[] = {
      {"cosine", ScheduleName::cosine}, {"wsd", ScheduleName::wsd}, {"constant", ScheduleName::constant}};
};
template <>
struct Words<Recompute> {
  static constexpr std::pair<std::string_view, Recompute> all[] = {{"none", Recompute::none},
                                                                   {"elementwise", Recompute::elementwise},
                                                                   {"attention", Recompute::attention},
                                                                   {"block", Recompute::block}};
};
template <>
struct Words<comm::AgreementCheck> {
  static constexpr std::pair<std::string_view, comm::AgreementCheck> all[] = {{"off", comm::AgreementCheck::off},
                                                                              {"first", comm::AgreementCheck::first},
                                                                              {"always", comm::AgreementCheck::always}};
};
template <>
struct Words<data::Packing> {
  static constexpr std::pair<std::string_view, data::Packing> all[] = {{"documents", data::Packing::documents},
                                                                       {"none", data::Packing::none}};
};
template <>
struct Words<data::Growth> {
  static constexpr std::pair<std::string_view, data::Growth> all[] = {{"refuse", data::Growth::refuse},
                                                                      {"next_epoch", data::Growth::next_epoch}};
};
template <>
struct Words<VerifyBlocks> {
  static constexpr std::pair<std::string_view, VerifyBlocks> all[] = {{"first_touch", VerifyBlocks::first_touch},
                                                                      {"never", VerifyBlocks::never}};
};
template <>
struct Words<data::Format> {
  static constexpr std::pair<std::string_view, data::Format> all[] = {
      {"auto", data::Format::automatic}, {"text", data::Format::text}, {"markdown", data::Format::markdown},
      {"html", data::Format::html},      {"man", data::Format::man},   {"fortune", data::Format::fortune},
      {"jsonl", data::Format::jsonl},    {"csv", data::Format::csv},   {"tsv", data::Format::tsv}};
};
template <>
struct Words<data::Encoding> {
  static constexpr std::pair<std::string_view, data::Encoding> all[] = {{"utf-8", data::Encoding::utf8},
                                                                        {"utf-16", data::Encoding::utf16},
                                                                        {"gb18030", data::Encoding::gb18030},
                                                                        {"big5", data::Encoding::big5}};
};
template <>
struct Words<data::Boilerplate> {
  static constexpr std::pair<std::string_view, data::Boilerplate> all[] = {{"keep", data::Boilerplate::keep},
                                                                           {"drop", data::Boilerplate::drop}};
};
template <>
struct Words<data::CodeBlocks> {
  static constexpr std::pair<std::string_view, data::CodeBlocks> all[] = {{"keep", data::CodeBlocks::keep},
                                                                          {"drop", data::CodeBlocks::drop}};
};
template <>
struct Words<data::Genre> {
  static constexpr std::pair<std::string_view, data::Genre> all[] = {{"modern", data::Genre::modern},
                                                                     {"classical", data::Genre::classical},
                                                                     {"technical", data::Genre::technical},
                                                                     {"code", data::Genre::code},
                                                                     {"dialogue", data::Genre::dialogue}};
};
template <>
struct Words<data::Action> {
  static constexpr std::pair<std::string_view, data::Action> all[] = {{"keep", data::Action::keep},
                                                                      {"mask", data::Action::mask},
                                                                      {"drop_line", data::Action::drop_line},
                                                                      {"drop", data::Action::drop}};
};
template <>
struct Words<data::Keep> {
  static constexpr std::pair<std::string_view, data::Keep> all[] = {{"first", data::Keep::first},
                                                                    {"longest", data::Keep::longest},
                                                                    {"priority", data::Keep::priority},
                                                                    {"quality", data::Keep::quality}};
};

/// "a, b or c"
std::string either(const std::vector<std::string>& words);

/// What was found, for messages: 'abc', a list, a mapping, nothing.
std::string describe(const YAML::Node& node);

/// parse: true, or false leaving `out` in any state. Quoted scalars are text, never numbers or truth values.
bool parse(const YAML::Node& node, std::int64_t& out);
bool parse(const YAML::Node& node, int& out);
bool parse(const YAML::Node& node, std::uint32_t& out);
bool parse(const YAML::Node& node, std::uint64_t& out);
bool parse(const YAML::Node& node, double& out);  ///< finite, or `off`: infinity
bool parse(const YAML::Node& node, bool& out);
bool parse(const YAML::Node& node, std::string& out);
bool parse(const YAML::Node& node, std::chrono::milliseconds& out);  ///< 500ms, 120s, 5m, 2h
bool parse(const YAML::Node& node, std::array<double, 2>& out);
bool parse(const YAML::Node& node, std::vector<std::string>& out);
bool parse(const YAML::Node& node, std::vector<std::int64_t>& out);     ///< a single integer is a list of one
bool parse(const YAML::Node& node, std::vector<double>& out);           ///< likewise
bool parse(const YAML::Node& node, std::vector<data::GramLimit>& out);  ///< {2: 0.25, 3: 0.2}
template <class E>
requires std::is_enum_v<E>
bool parse(const YAML::Node& node, E& out) {
  std::string word;
  if (!parse(node, word)) return false;
  for (const auto& [name, value] : Words<E>::all) {
    if (name == word) {
      out = value;
      return true;
    }
  }
  return false;
}
template <class T>
bool parse(const YAML::Node& node, std::optional<T>& out) {
  if (node.IsNull()) {
    out.reset();
    return true;
  }
  return parse(node, out.emplace());
}

/// The value as YAML flow text that parse() reads back to the same value.
std::string text(std::int64_t value);
std::string text(int value);
std::string text(std::uint32_t value);
std::string text(std::uint64_t value);
std::string text(double value);
std::string text(bool value);
std::string text(const std::string& value);
std::string text(std::chrono::milliseconds value);
std::string text(const std::array<double, 2>& value);
std::string text(const std::vector<std::string>& value);
std::string text(const std::vector<std::int64_t>& value);
std::string text(const std::vector<double>& value);
std::string text(const std::vector<data::GramLimit>& value);
template <class E>
requires std::is_enum_v<E> std::string text(E value) {
  for (const auto& [name, candidate] : Words<E>::all) {
    if (candidate == value) return std::string(name);
  }
  return "?";
}
template <class T>
std::string text(const std::optional<T>& value) {
  return value ? text(*value) : "null";
}

/// What parse() takes, for messages and the reference: "an integer".
inline std::string expected(const std::int64_t*) {
  return "an integer";
}
inline std::string expected(const int*) {
  return "an integer";
}
inline std::string expected(const std::uint32_t*) {
  return "an integer of 0 or more";
}
inline std::string expected(const std::uint64_t*) {
  return "an integer of 0 or more";
}
inline std::string expected(const double*) {
  return "a number";
}
inline std::string expected(const bool*) {
  return "true or false";
}
inline std::string expected(const std::string*) {
  return "text";
}
inline std::string expected(const std::chrono::milliseconds*) {
  return "a duration such as 500ms, 120s, 5m or 2h";
}
inline std::string expected(const std::array<double, 2>*) {
  return "a list of two numbers";
}
inline std::string expected(const std::vector<std::string>*) {
  return "a list of texts";
}
inline std::string expected(const std::vector<std::int64_t>*) {
  return "an integer or a list of integers";
}
inline std::string expected(const std::vector<double>*) {
  return "a number or a list of numbers";
}
inline std::string expected(const std::vector<data::GramLimit>*) {
  return "a mapping from n to a limit, such as {2: 0.25, 3: 0.2}";
}
template <class E>
requires std::is_enum_v<E> std::string expected(const E*) {
  std::vector<std::string> words;
  for (const auto& [name, value] : Words<E>::all) words.emplace_back(name);
  return either(words);
}
template <class T>
std::string expected(const std::optional<T>*) {
  return expected(static_cast<const T*>(nullptr));
}

}  // namespace dujiang::train::config_values
