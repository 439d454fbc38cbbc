// The first byte chooses the format, the rest is a file, compressed or not.

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "data/corpus/read/reader.h"
#include "tests/fuzz/fuzz.h"

using namespace dujiang::data;
using namespace dujiang::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  static const std::string path =
      (std::filesystem::temp_directory_path() / ("dujiang-fuzz-" + std::to_string(::getpid()))).string();
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(data) + 1, static_cast<std::streamsize>(size - 1));
  ReadConfig config;
  config.format = static_cast<Format>(data[0] % 9);
  if (data[0] & 16) config.separator = "--";
  config.max_document = data[0] & 32 ? 64 : 1 << 20;
  config.field = "t";
  DocumentReader reader(path, config);
  std::uint64_t end = 0;
  for (RawDocument document; reader.next(document);) {
    require(document.offset >= end && document.raw_bytes > 0 && document.line > 0);
    require(document.fault ? document.bytes.empty() : document.raw_bytes <= config.max_document);
    if (!document.from_utf16 && !document.fault) require(document.bytes.size() == document.raw_bytes);
    end = document.offset + document.raw_bytes;
  }
  require(end <= reader.bytes());
  if (reader.fault()) require(!reader.fault()->rule.empty() && reader.fault()->message.find(path) != std::string::npos);
  std::remove(path.c_str());
  return 0;
}
