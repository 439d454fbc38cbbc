#pragma once
// A piece's documents as tokens, on their way into shards.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "data/shard/shard_format.h"

namespace dujiang::data {

struct TokenRecord {
  std::uint64_t begin, end;  // in the piece's tokens
  std::uint64_t hash[2];     // of the text
  std::uint64_t cluster;
  std::uint64_t offset, bytes;  // of the raw document in the decompressed file
  std::uint32_t source, file;
  float quality;
  std::uint8_t held_out, encoding, script, unused;
};

class TokenFileWriter {
 public:
  /// Tokens are below vocab_size; they take as many bytes as in a shard.
  explicit TokenFileWriter(std::int64_t vocab_size) : narrow_(token_bytes(vocab_size) == 2) {}
  void add(TokenRecord record, std::span<const std::int32_t> tokens);
  void write(const std::filesystem::path& path) const;

 private:
  bool narrow_;
  std::vector<TokenRecord> records_;
  std::vector<std::uint16_t> tokens16_;  // one of the two
  std::vector<std::int32_t> tokens_;
};

class TokenFileReader {
 public:
  explicit TokenFileReader(const std::filesystem::path& path);
  std::span<const TokenRecord> records() const { return records_; }
  std::span<const std::int32_t> tokens(const TokenRecord& record) const {
    return std::span(tokens_).subspan(record.begin, record.end - record.begin);
  }

 private:
  std::vector<TokenRecord> records_;
  std::vector<std::int32_t> tokens_;
};

}  // namespace dujiang::data
