// The first two bytes are the config's switches, the rest is text.

#include "data/text/normalise.h"
#include "data/text/script.h"
#include "tests/fuzz/fuzz.h"

using namespace dujiang::data;
using namespace dujiang::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  text = text.substr(0, utf8_valid_prefix(text));
  if (text.find("\xEF\xBF\xBD") != text.npos) return 0;
  NormaliseConfig config;
  bool* const switches[] = {&config.terminal,   &config.line_ends, &config.controls,
                            &config.invisible,  &config.spaces,    &config.full_width,
                            &config.gb_private, &config.entities,  &config.trailing_blanks};
  const unsigned bits = data[0] | static_cast<unsigned>(data[1]) << 8;
  for (std::size_t i = 0; i < std::size(switches); ++i) *switches[i] = !(bits >> i & 1);
  config.punctuation_run = static_cast<int>(bits >> 9 & 3);
  config.ruler_run = static_cast<int>(bits >> 11 & 3) * 3;
  config.blank_lines = static_cast<int>(bits >> 13 & 3) - 1;
  NormaliseReport report, again;
  const std::string once = normalise(text, config, report);
  require_sound(once);
  std::int64_t bytes = 0;
  for (const auto& rule : report.rules) bytes += rule.bytes;
  require(static_cast<std::int64_t>(text.size()) - bytes == static_cast<std::int64_t>(once.size()));
  if (!config.entities) require(normalise(once, config, again) == once);
  count_script(once);
  return 0;
}
