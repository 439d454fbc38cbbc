#pragma once
// HTML character references.

#include <cstddef>
#include <string_view>

namespace dujiang::data {

struct Entity {
  char32_t c = 0;
  std::size_t bytes = 0;  // of the reference with its '&' and ';'; 0: there is none
};

/// The reference at the start of `text`: decimal, hexadecimal or one of the names that Chinese pages use. References
/// to NUL, to surrogates and to U+FFFD are left as they are.
Entity parse_entity(std::string_view text);

}  // namespace dujiang::data
