#include "framework/base/files.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>
#include <vector>

#include "framework/base/check.h"

namespace dujiang {
namespace {

constexpr std::size_t longest_write = std::size_t{1} << 30;  // Linux writes less than 2 GiB at once

}  // namespace

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
  const char* from = static_cast<const char*>(bytes);
  while (count > 0) {
    const ssize_t written = ::write(fd_, from, std::min(count, longest_write));
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

PlacedFile::PlacedFile(std::filesystem::path path, int flags)
    : path_(std::move(path)), fd_(::open(path_.c_str(), flags | O_RDWR | O_CLOEXEC, 0666)) {
  if (fd_ >= 0) return;
  const int error = errno;
  fail_user("{}: cannot be {}: {}{}", path_.string(), flags == 0 ? "opened" : "created", std::strerror(error),
            flags == 0 && error == ENOENT ? "; rank 0 made it: is this a file system that all ranks share?" : "");
}

PlacedFile::PlacedFile(PlacedFile&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}

PlacedFile::~PlacedFile() {
  if (fd_ >= 0) ::close(fd_);
}

PlacedFile PlacedFile::create(std::filesystem::path path, std::uint64_t size) {
  PlacedFile file(std::move(path), O_CREAT | O_TRUNC);
  // A full disk is found here rather than when every rank has written for a while.
  if (const int error = size == 0 ? 0 : ::posix_fallocate(file.fd_, 0, static_cast<off_t>(size)))
    fail_user("{}: cannot be written: {} ({} bytes)", file.path_.string(), std::strerror(error), size);
  return file;
}

PlacedFile PlacedFile::open(std::filesystem::path path) {
  return {std::move(path), 0};
}

void PlacedFile::write_at(std::uint64_t offset, const void* bytes, std::size_t count) const {
  const char* from = static_cast<const char*>(bytes);
  while (count > 0) {
    const ssize_t written = ::pwrite(fd_, from, std::min(count, longest_write), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_user("{}: cannot be written: {}", path_.string(), std::strerror(errno));
    from += written;
    offset += static_cast<std::uint64_t>(written);
    count -= static_cast<std::size_t>(written);
  }
}

void PlacedFile::sync() const {
  if (::fsync(fd_) != 0) fail_user("{}: cannot be written: {}", path_.string(), std::strerror(errno));
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream bytes;
  if (in.peek() != std::ifstream::traits_type::eof()) bytes << in.rdbuf();  // of nothing, << would be a failure
  if (!in) fail_user("{}: cannot be read", path.string());
  return std::move(bytes).str();
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

}  // namespace dujiang
