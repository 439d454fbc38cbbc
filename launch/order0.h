#pragma once
// The simplest model of text, to judge others by: characters drawn independently, with the frequencies of the training
// text. A character never seen there is announced by an escape (PPM's method C, Moffat 1990) and then costs as much as
// any of Unicode's 1,112,064 scalars.

#include <cstdint>
#include <string_view>
#include <unordered_map>

namespace dujiang::launch {

class Order0 {
 public:
  /// Both take valid UTF-8.
  void add_training(std::string_view text) { add(text, training_, training_chars_); }
  void add_held_out(std::string_view text);

  std::int64_t training_chars() const { return training_chars_; }
  std::int64_t held_out_chars() const { return held_out_chars_; }
  /// Of the held-out text under the training text's frequencies; 0 when there is none.
  double bits_per_byte() const;

 private:
  using Counts = std::unordered_map<char32_t, std::int64_t>;
  static void add(std::string_view text, Counts& counts, std::int64_t& total);

  Counts training_, held_out_;
  std::int64_t training_chars_ = 0, held_out_chars_ = 0, held_out_bytes_ = 0;
};

}  // namespace dujiang::launch
