// The first byte chooses the format and the settings, the rest is a document.

#include "data/corpus/read/extract.h"
#include "tests/fuzz/fuzz.h"

using namespace dujiang::data;
using namespace dujiang::fuzz;

namespace {

ExtractConfig settings(bool other) {
  ExtractConfig config;
  config.field = other ? "a.b" : "t";
  if (other) {
    config.inside = Format::html;
    config.boilerplate = Boilerplate::keep;
    config.code_blocks = CodeBlocks::drop;
    config.simplify = "t2s";
  }
  return config;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  static const Extractor extractors[2] = {Extractor(settings(false)), Extractor(settings(true))};
  RawDocument raw;
  raw.bytes.assign(reinterpret_cast<const char*>(data) + 1, size - 1);
  raw.raw_bytes = raw.bytes.size();
  raw.format = static_cast<Format>(1 + data[0] % 8);
  raw.column = data[0] >> 4 & 1;
  raw.from_utf16 = data[0] & 64;
  TextDocument out;
  dujiang::data::Tally tally;
  const auto rejection = extractors[data[0] >> 7](raw, out, tally);
  if (rejection) {
    require(!rejection->rule.empty());
    return 0;
  }
  require(!out.text.empty());
  require_sound(out.text);
  std::int64_t bytes = static_cast<std::int64_t>(raw.raw_bytes);
  for (const auto& [rule, counts] : tally.rules()) bytes -= counts.bytes;
  require(bytes == static_cast<std::int64_t>(out.text.size()));
  return 0;
}
