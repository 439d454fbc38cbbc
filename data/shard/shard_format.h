#pragma once
// What a token shard holds. A shard is an HDF5 file, written once by one writer and never changed:
//
//   /tokens              u16 (vocabulary <= 65,536) or u32, [tokens], contiguous, no filter
//   /doc_offsets         u64 [documents + 1]: document d is tokens [offsets[d], offsets[d + 1]), its end token included
//   /doc/source          u32 [documents]: row of /sources
//   /doc/hash            u64 [documents, 2]: 128-bit hash of the document's text, as the writer's caller computed it
//   /doc/flags           u32 [documents]
//   /doc/quality         f32 [documents]: NaN where nothing judged it
//   /doc/cluster         u64 [documents]: documents of one cluster are near-duplicates of one another
//   /doc/file            u32 [documents]: row of /files
//   /doc/{offset,bytes}  u64 [documents]: the raw document's first byte in that file, decompressed, and its bytes
//   /doc/{encoding,script}  u8 [documents]: numbered as in data/corpus/document.h
//   /sources/{name,licence,sha256}   fixed-length UTF-8 strings, one per source
//   /files/path          u8 [bytes]: the paths of source files as they were found, in any encoding, each ended by a 0
//   /block_xxh3          u64 [ceil(token bytes / block_bytes)]: XXH3-64 of each block of token bytes (little endian)
//   attributes of /      format_version, vocab_size, documents, tokens (u64); tokenizer_sha256, split, pipeline
//   (strings)
//
// and, where documents brought them, columns beside the tokens, with the checksums of their own blocks:
//
//   /token/loss_weight   f32 [tokens], /token/loss_weight_xxh3
//   /token/label         i32 [tokens], /token/label_xxh3
//
// All columns start at multiples of 64 bytes, so that they can be used where they lie in a mapped file.

#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dujiang::data {

inline constexpr std::uint64_t shard_format_version = 2;
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

/// The label of a token at which nothing is to be predicted.
inline constexpr std::int32_t no_label = -100;

/// One tokenized document. Owns nothing. May be empty.
struct Document {
  std::span<const std::int32_t> tokens;  ///< ends with the end token where training should see one
  std::uint32_t source = 0;
  std::array<std::uint64_t, 2> hash{};
  std::uint32_t flags = 0;
  float quality = std::numeric_limits<float>::quiet_NaN();
  std::uint64_t cluster = 0;
  std::string_view file{};  ///< path of the source file: any bytes but 0
  std::uint64_t offset = 0, bytes = 0;
  std::uint8_t encoding = 0, script = 0;
  /// Empty: all 1. Else one finite weight >= 0 per token: how much it counts to predict this token (or this token's
  /// label, where there are labels).
  std::span<const float> loss_weight{};
  /// Empty: every token is to predict the next. Else one per token: what is to be predicted at this token, or no_label.
  /// Either all documents of a dataset that hold tokens bring labels, or none.
  std::span<const std::int32_t> labels{};
};

/// Bytes per stored token.
inline int token_bytes(std::int64_t vocab_size) {
  return vocab_size <= 65536 ? 2 : 4;
}

}  // namespace dujiang::data
