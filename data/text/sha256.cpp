#include "data/text/sha256.h"

#include <openssl/evp.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <vector>

#include "framework/base/check.h"

namespace dujiang::data {

struct Sha256::Context {
  EVP_MD_CTX* md = EVP_MD_CTX_new();
  ~Context() { EVP_MD_CTX_free(md); }
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  DUJIANG_CHECK(EVP_DigestInit_ex(context_->md, EVP_sha256(), nullptr) == 1, "sha256: OpenSSL refuses SHA-256");
}

Sha256::~Sha256() = default;

void Sha256::update(std::string_view bytes) {
  DUJIANG_CHECK(EVP_DigestUpdate(context_->md, bytes.data(), bytes.size()) == 1, "sha256: update failed");
}

std::string Sha256::hex() {
  std::array<unsigned char, 32> digest;
  DUJIANG_CHECK(EVP_DigestFinal_ex(context_->md, digest.data(), nullptr) == 1, "sha256: already ended");
  std::string out;
  for (const unsigned char byte : digest) out += fmt::format("{:02x}", byte);
  return out;
}

std::string sha256_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail_user("{}: can't be read: {}", path, std::strerror(errno));
  Sha256 hash;
  std::vector<char> buffer(1 << 20);
  do {
    file.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    hash.update({buffer.data(), static_cast<std::size_t>(file.gcount())});
  } while (file);
  if (file.bad()) fail_user("{}: reading failed: {}", path, std::strerror(errno));
  return hash.hex();
}

}  // namespace dujiang::data
