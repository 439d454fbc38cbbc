#pragma once
// SHA-256 (FIPS 180-4), for naming files by their content.

#include <memory>
#include <string>
#include <string_view>

namespace dujiang::data {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void update(std::string_view bytes);
  /// 64 hexadecimal digits; ends the computation.
  std::string hex();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

/// UserError when the file can't be read.
std::string sha256_file(const std::string& path);

}  // namespace dujiang::data
