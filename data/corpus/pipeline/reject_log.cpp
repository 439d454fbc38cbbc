#include "data/corpus/pipeline/reject_log.h"

#include <zstd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/corpus/read/file_fault.h"
#include "data/text/utf8.h"
#include "framework/base/check.h"
#include "framework/base/files.h"

namespace dujiang::data {

void RejectLog::add(std::string_view step, const Rejection& why, const Provenance& from, std::string_view text) {
  text = text.substr(0, text_bytes_);
  // Cut between characters, and nothing of what isn't UTF-8.
  text = text.substr(0, utf8_valid_prefix(text));
  nlohmann::ordered_json line = {{"step", step},
                                 {"rule", why.rule},
                                 {"value", why.value},
                                 {"limit", why.limit},
                                 {"detail", why.detail},
                                 {"source", from.source},
                                 {"file", printable_path(from.file)},
                                 {"offset", from.offset},
                                 {"bytes", from.bytes},
                                 {"text", text}};
  lines_ += line.dump();
  lines_ += '\n';
}

void RejectLog::write(const std::filesystem::path& path) const {
  std::string packed;
  if (!lines_.empty()) {
    packed.resize(ZSTD_compressBound(lines_.size()));
    const std::size_t size = ZSTD_compress(packed.data(), packed.size(), lines_.data(), lines_.size(), 3);
    if (ZSTD_isError(size)) fail("{}: cannot be compressed: {}", path.string(), ZSTD_getErrorName(size));
    packed.resize(size);
  }
  write_file(path, packed);
}

}  // namespace dujiang::data
