#include "data/corpus/pipeline/order0.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "data/text/utf8.h"

namespace dujiang::data {

using nlohmann::json;

void Order0::Text::add(std::string_view text) {
  for (std::size_t at = 0; at < text.size(); ++chars) {
    const char32_t c = next_char(text, at);
    if (c >= counts.size()) counts.resize(c + 1);
    ++counts[c];
  }
  bytes += static_cast<std::int64_t>(text.size());
}

Order0::Text& Order0::Text::operator+=(const Text& other) {
  counts.resize(std::max(counts.size(), other.counts.size()));
  for (std::size_t c = 0; c < other.counts.size(); ++c) counts[c] += other.counts[c];
  chars += other.chars;
  bytes += other.bytes;
  return *this;
}

Order0& Order0::operator+=(const Order0& other) {
  training_ += other.training_;
  held_out_ += other.held_out_;
  return *this;
}

double Order0::bits_per_byte() const {
  if (held_out_.bytes == 0) return 0;
  constexpr double scalars = 1112064;
  const double escapes =
      static_cast<double>(training_.counts.size()) -
      static_cast<double>(std::count(training_.counts.begin(), training_.counts.end(), std::int64_t{0}));
  const double total = static_cast<double>(training_.chars) + escapes;
  double bits = 0;
  for (std::size_t c = 0; c < held_out_.counts.size(); ++c) {
    if (held_out_.counts[c] == 0) continue;
    const std::int64_t seen = c < training_.counts.size() ? training_.counts[c] : 0;
    const double each = seen > 0      ? std::log2(total / static_cast<double>(seen))
                        : escapes > 0 ? std::log2(total / escapes) + std::log2(scalars)
                                      : std::log2(scalars);
    bits += each * static_cast<double>(held_out_.counts[c]);
  }
  return bits / static_cast<double>(held_out_.bytes);
}

json Order0::json_of(const Text& text) {
  json counts = json::array();
  for (std::size_t c = 0; c < text.counts.size(); ++c)
    if (text.counts[c] != 0) counts.push_back({c, text.counts[c]});
  return {{"counts", counts}, {"chars", text.chars}, {"bytes", text.bytes}};
}

Order0::Text Order0::text_of(const json& json) {
  Text text;
  for (const auto& pair : json.at("counts")) {
    const auto c = pair.at(0).get<std::size_t>();
    if (c >= text.counts.size()) text.counts.resize(c + 1);
    text.counts[c] = pair.at(1);
  }
  json.at("chars").get_to(text.chars);
  json.at("bytes").get_to(text.bytes);
  return text;
}

void to_json(json& out, const Order0& model) {
  out = {{"training", Order0::json_of(model.training_)}, {"held_out", Order0::json_of(model.held_out_)}};
}

void from_json(const json& in, Order0& model) {
  model.training_ = Order0::text_of(in.at("training"));
  model.held_out_ = Order0::text_of(in.at("held_out"));
}

}  // namespace dujiang::data
