// The first byte chooses the hint, the rest is text of any encoding.

#include "data/text/decode.h"
#include "tests/fuzz/fuzz.h"

using namespace dujiang::data;
using namespace dujiang::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  DecodeHint hint;
  if (data[0] & 4) hint = {static_cast<Encoding>(data[0] & 3), (data[0] & 8) != 0};
  const Decoded got = decode(bytes, hint);
  require_sound(got.text);
  if (got.fault) require(got.text.empty() && got.fault->offset <= bytes.size() && !got.fault->rule.empty());
  // Text that was UTF-8 comes out as it is, less its mark.
  if (!got.fault && got.encoding == Encoding::utf8)
    require(bytes.ends_with(got.text) && bytes.size() - got.text.size() <= 3);
  return 0;
}
