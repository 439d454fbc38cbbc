#pragma once
// The simplest model of text, to judge others by: characters drawn independently, with the frequencies of the training
// text. A character never seen there is announced by an escape (PPM's method C, Moffat 1990) and then costs as much as
// any of Unicode's 1,112,064 scalars.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string_view>
#include <vector>

namespace dujiang::data {

class Order0 {
 public:
  /// Both take valid UTF-8.
  void add_training(std::string_view text) { training_.add(text); }
  void add_held_out(std::string_view text) { held_out_.add(text); }
  /// As if it had seen the other's texts too.
  Order0& operator+=(const Order0& other);

  std::int64_t training_chars() const { return training_.chars; }
  std::int64_t held_out_chars() const { return held_out_.chars; }
  /// Of the held-out text under the training text's frequencies; 0 when there is none.
  double bits_per_byte() const;

  friend void to_json(nlohmann::json& json, const Order0& model);
  friend void from_json(const nlohmann::json& json, Order0& model);

 private:
  struct Text {
    std::vector<std::int64_t> counts;  // by character, as far as the highest one seen
    std::int64_t chars = 0, bytes = 0;
    void add(std::string_view text);
    Text& operator+=(const Text& other);
  };
  static nlohmann::json json_of(const Text& text);
  static Text text_of(const nlohmann::json& json);

  Text training_, held_out_;
};

}  // namespace dujiang::data
