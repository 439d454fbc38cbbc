#pragma once
// A document on its way through the pipeline.

#include <cstdint>
#include <limits>
#include <string>

#include "data/text/encoding.h"

namespace dujiang::data {

struct TextDocument {
  std::string text;          // UTF-8, lines end in '\n' (the last need not)
  std::uint32_t source = 0;  // into the build's sources
  std::uint32_t file = 0;    // into the build's files
  std::uint64_t offset = 0;  // first byte of the raw document in the decompressed file
  std::uint64_t bytes = 0;   // of the raw document
  Encoding encoding = Encoding::utf8;
  Script script = Script::none;
  float quality = std::numeric_limits<float>::quiet_NaN();  // NaN: not judged
};

}  // namespace dujiang::data
