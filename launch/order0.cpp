#include "launch/order0.h"

#include <cmath>

#include "data/text/utf8.h"

namespace dujiang::launch {

void Order0::add(std::string_view text, Counts& counts, std::int64_t& total) {
  for (std::size_t at = 0; at < text.size();) {
    ++counts[data::next_char(text, at)];
    ++total;
  }
}

void Order0::add_held_out(std::string_view text) {
  add(text, held_out_, held_out_chars_);
  held_out_bytes_ += static_cast<std::int64_t>(text.size());
}

double Order0::bits_per_byte() const {
  if (held_out_bytes_ == 0) return 0;
  constexpr double scalars = 1112064;
  const double escapes = static_cast<double>(training_.size());
  const double total = static_cast<double>(training_chars_) + escapes;
  double bits = 0;
  for (const auto& [character, count] : held_out_) {
    const auto seen = training_.find(character);
    const double each = seen != training_.end() ? std::log2(total / static_cast<double>(seen->second))
                        : escapes > 0           ? std::log2(total / escapes) + std::log2(scalars)
                                                : std::log2(scalars);
    bits += each * static_cast<double>(count);
  }
  return bits / static_cast<double>(held_out_bytes_);
}

}  // namespace dujiang::launch
