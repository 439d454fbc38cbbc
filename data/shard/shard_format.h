#pragma once
// What a token shard holds. A shard is an HDF5 file, written once by one writer and never changed:
//
//   /tokens              u16 (vocabulary <= 65,536) or u32, [tokens], contiguous, no filter
//   /doc_offsets         u64 [documents + 1]: document d is tokens [offsets[d], offsets[d + 1]), its end token included
//   /doc/source          u32 [documents]: row of /sources
//   /doc/hash            u64 [documents, 2]: 128-bit hash of the document's text, as the writer's caller computed it
//   /doc/flags           u32 [documents]
//   /sources/{name,licence,sha256}   fixed-length UTF-8 strings, one per source
//   /block_xxh3          u64 [ceil(token bytes / block_bytes)]: XXH3-64 of each block of token bytes (little endian)
//   attributes of /      format_version, vocab_size, documents, tokens (u64); tokenizer_sha256, split, pipeline
//   (strings)
//
// All columns start at multiples of 64 bytes, so that they can be used where they lie in a mapped file.

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace dujiang::data {

inline constexpr std::uint64_t shard_format_version = 1;
inline constexpr std::int64_t block_bytes = std::int64_t{1} << 20;

/// Where text came from.
struct Source {
  std::string name;
  std::string licence;
  std::string sha256;
  bool operator==(const Source&) const = default;
};

/// What all shards of a dataset share.
struct DatasetInfo {
  std::int64_t vocab_size = 0;   ///< every token is below it; at most 2^31
  std::string tokenizer_sha256;  ///< of the tokenizer's files: tokens mean nothing without it
  std::string pipeline = "{}";   ///< settings of the pipeline that made the text, a JSON object under 60,000 bytes
  std::vector<Source> sources;   ///< Document::source is an index into this
};

/// One tokenized document. Does not own its tokens. May be empty.
struct Document {
  std::span<const std::int32_t> tokens;  ///< ends with the end token where training should see one
  std::uint32_t source = 0;
  std::array<std::uint64_t, 2> hash{};
  std::uint32_t flags = 0;
};

/// Bytes per stored token.
inline int token_bytes(std::int64_t vocab_size) {
  return vocab_size <= 65536 ? 2 : 4;
}

}  // namespace dujiang::data
