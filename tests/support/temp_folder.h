#pragma once
// A folder that a test has to itself, removed with it.

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "framework/base/check.h"

namespace dujiang::test {

class TempFolder {
 public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "dujiang-test-XXXXXX").string();
    DUJIANG_CHECK(::mkdtemp(name.data()), "mkdtemp {} failed", name);
    path_ = name;
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::string operator/(std::string_view name) const { return (path_ / name).string(); }
  std::string write(std::string_view name, std::string_view bytes) const {
    const std::filesystem::path file = path_ / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return file.string();
  }

 private:
  std::filesystem::path path_;
};

/// For BOOST_CHECK_EXCEPTION: the message holds every one of the parts.
template <class... Parts>
auto says(Parts... parts) {
  return [=](const std::exception& error) {
    const std::string message = error.what();
    return ((message.find(parts) != message.npos) && ...);
  };
}

}  // namespace dujiang::test
