#include "framework/train/files.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <utility>
#include <vector>

#include "framework/base/check.h"

namespace dujiang::train {

DurableFile::DurableFile(std::filesystem::path path) : path_(std::move(path)), temporary_(path_.string() + ".tmp") {
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd_ < 0) fail_io("created");
}

DurableFile::~DurableFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void DurableFile::write(const void* bytes, std::size_t count) {
  constexpr std::size_t piece = std::size_t{1} << 30;  // Linux writes less than 2 GiB at once
  const char* from = static_cast<const char*>(bytes);
  while (count > 0) {
    const ssize_t written = ::write(fd_, from, std::min(count, piece));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_io("written");
    from += written;
    count -= static_cast<std::size_t>(written);
  }
}

void DurableFile::commit() {
  if (::fsync(fd_) != 0) fail_io("written");
  // Network file systems report a full disk here.
  if (::close(std::exchange(fd_, -1)) != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary_.c_str());
    errno = error;
    fail_io("written");
  }
}

void DurableFile::fail_io(const char* action) const {
  fail_user("{}: cannot be {}: {}", path_.string(), action, std::strerror(errno));
}

void write_file(const std::filesystem::path& path, std::string_view text) {
  DurableFile file(path);
  file.write(text);
  file.commit();
}

void copy_file_durably(const std::filesystem::path& from, const std::filesystem::path& to) {
  std::ifstream in(from, std::ios::binary);
  DurableFile out(to);
  std::vector<char> buffer(std::size_t{1} << 20);
  while (in) {
    in.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    out.write(buffer.data(), static_cast<std::size_t>(in.gcount()));
  }
  if (!in.eof()) fail_user("{}: cannot be read", from.string());
  out.commit();
}

void sync_directory(const std::filesystem::path& dir) {
  const int fd = ::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool synced = fd >= 0 && (::fsync(fd) == 0 || errno == EINVAL);  // EINVAL: this file system has no such thing
  const int error = errno;
  if (fd >= 0) ::close(fd);
  if (!synced) fail_user("{}: cannot be made durable: {}", dir.string(), std::strerror(error));
}

}  // namespace dujiang::train
