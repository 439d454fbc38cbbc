#include "data/corpus/pipeline/token_file.h"

#include <algorithm>
#include <fstream>

#include "framework/base/check.h"
#include "framework/base/files.h"

namespace dujiang::data {
namespace {

struct Header {
  std::uint64_t magic, documents, tokens, token_bytes;
};
constexpr std::uint64_t magic = 0x326E656B6F746A64;  // "djtoken2"

}  // namespace

void TokenFileWriter::add(TokenRecord record, std::span<const std::int32_t> tokens) {
  record.begin = tokens_.size() + tokens16_.size();
  if (narrow_)
    tokens16_.insert(tokens16_.end(), tokens.begin(), tokens.end());
  else
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  record.end = record.begin + tokens.size();
  records_.push_back(record);
}

void TokenFileWriter::write(const std::filesystem::path& path) const {
  const Header header{magic, records_.size(), tokens_.size() + tokens16_.size(), narrow_ ? 2u : 4u};
  DurableFile file(path);
  file.write(&header, sizeof header);
  file.write(records_.data(), records_.size() * sizeof(TokenRecord));
  file.write(tokens16_.data(), tokens16_.size() * sizeof(std::uint16_t));
  file.write(tokens_.data(), tokens_.size() * sizeof(std::int32_t));
  file.commit();
}

TokenFileReader::TokenFileReader(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  const auto read = [&](void* to, std::size_t bytes) {
    in.read(static_cast<char*>(to), static_cast<std::streamsize>(bytes));
  };
  Header header{};
  read(&header, sizeof header);
  if (!in || header.magic != magic) fail_user("{}: not a piece's tokens: remove it and start again", path.string());
  records_.resize(header.documents);
  tokens_.resize(header.tokens);
  read(records_.data(), records_.size() * sizeof(TokenRecord));
  if (header.token_bytes == 2) {
    std::vector<std::uint16_t> narrow(header.tokens);
    read(narrow.data(), narrow.size() * sizeof(std::uint16_t));
    std::copy(narrow.begin(), narrow.end(), tokens_.begin());
  } else {
    read(tokens_.data(), tokens_.size() * sizeof(std::int32_t));
  }
  if (!in) fail_user("{}: is cut short: remove it and start again", path.string());
}

}  // namespace dujiang::data
