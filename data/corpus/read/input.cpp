#include "data/corpus/read/input.h"

#include <fcntl.h>
#include <lzma.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "data/text/utf8.h"

namespace dujiang::data {

std::string printable_path(std::string_view path) {
  std::string out;
  for (;;) {
    const std::size_t valid = utf8_valid_prefix(path);
    out += path.substr(0, valid);
    if (valid == path.size()) return out;
    out += fmt::format("\\x{:02X}", static_cast<unsigned char>(path[valid]));
    path.remove_prefix(valid + 1);
  }
}

FileError system_error(const std::string& path, int error) {
  const char* rule = error == ENOENT || error == ESTALE ? "vanished" : error == ELOOP ? "link_loop" : "unreadable";
  return {rule, fmt::format("{}: can't be read: {}", printable_path(path), std::strerror(error))};
}

// The file's bytes as they are on disk, in blocks.
class ByteStream::File {
 public:
  File(const std::string& path, Sha256* digest) : path_(path), digest_(digest) {
    fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe that nobody writes would block
    if (fd_ < 0 || ::fstat(fd_, &opened_) != 0) {
      const int error = errno;
      close();
      throw system_error(path, error);
    }
    if (!S_ISREG(opened_.st_mode)) {
      const char* what = S_ISDIR(opened_.st_mode) ? "a folder" : "not a regular file";
      close();
      throw FileError("not_a_file", fmt::format("{}: {}, expected a file", printable_path(path), what));
    }
  }
  ~File() { close(); }

  // The bytes at hand, after reading more if there are none; empty at the end.
  std::string_view bytes() {
    if (begin_ == end_) {
      begin_ = 0;
      end_ = read(buffer_.data(), buffer_.size());
    }
    return {buffer_.data() + begin_, end_ - begin_};
  }
  void consume(std::size_t count) { begin_ += count; }

  std::size_t read(char* out, std::size_t size) {
    ssize_t got;
    do {
      got = ::read(fd_, out, size);
    } while (got < 0 && errno == EINTR);
    if (got < 0) throw system_error(path_, errno);
    total_ += static_cast<std::uint64_t>(got);
    if (digest_) digest_->update({out, static_cast<std::size_t>(got)});
    return static_cast<std::size_t>(got);
  }

  void check_unchanged() const {
    struct stat now {
    }, there{};
    if (::stat(path_.c_str(), &there) != 0 || ::fstat(fd_, &now) != 0) throw system_error(path_, errno);
    const bool same = there.st_dev == opened_.st_dev && there.st_ino == opened_.st_ino &&
                      now.st_size == opened_.st_size && now.st_mtim.tv_sec == opened_.st_mtim.tv_sec &&
                      now.st_mtim.tv_nsec == opened_.st_mtim.tv_nsec;
    if (!same)
      throw FileError("changed", fmt::format("{}: changed while it was read ({} bytes then, {} now)",
                                             printable_path(path_), opened_.st_size, there.st_size));
  }

  std::uint64_t total() const { return total_; }
  [[noreturn]] void fail(const char* rule, const std::string& what) const {
    throw FileError(rule, fmt::format("{}: {}", printable_path(path_), what));
  }

 private:
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

  std::string path_;
  Sha256* digest_;
  int fd_ = -1;
  struct stat opened_ {};
  std::vector<char> buffer_ = std::vector<char>(1 << 16);
  std::size_t begin_ = 0, end_ = 0;
  std::uint64_t total_ = 0;
};

class ByteStream::Codec {
 public:
  virtual ~Codec() = default;
  // Up to `size` bytes of content, 0 at the end.
  virtual std::size_t read(File& file, char* out, std::size_t size) = 0;
};

namespace {

using File = ByteStream::File;

class PlainCodec final : public ByteStream::Codec {
 public:
  std::size_t read(File& file, char* out, std::size_t size) override {
    const std::string_view bytes = file.bytes().substr(0, size);
    std::copy(bytes.begin(), bytes.end(), out);
    file.consume(bytes.size());
    return bytes.size();
  }
};

class GzipCodec final : public ByteStream::Codec {
 public:
  GzipCodec() { DUJIANG_CHECK(inflateInit2(&stream_, 15 + 16) == Z_OK, "zlib: no memory"); }
  ~GzipCodec() override { inflateEnd(&stream_); }

  std::size_t read(File& file, char* out, std::size_t size) override {
    stream_.next_out = reinterpret_cast<Bytef*>(out);
    stream_.avail_out = static_cast<uInt>(std::min<std::size_t>(size, 1 << 30));
    const auto room = stream_.avail_out;
    while (stream_.avail_out == room) {
      const std::string_view input = file.bytes();
      if (input.empty()) {
        if (in_member_) file.fail("truncated", "the gzip data is cut short");
        return 0;
      }
      if (!in_member_) {
        if (input[0] == '\0') {  // padding behind the last member
          file.consume(1);
          continue;
        }
        inflateReset(&stream_);
        in_member_ = true;
      }
      stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(input.data()));
      stream_.avail_in = static_cast<uInt>(input.size());
      const int status = inflate(&stream_, Z_NO_FLUSH);
      file.consume(input.size() - stream_.avail_in);
      if (status == Z_STREAM_END) {
        in_member_ = false;
      } else if (status != Z_OK) {
        file.fail("damaged", fmt::format("damaged gzip data ({})", stream_.msg ? stream_.msg : zError(status)));
      }
    }
    return room - stream_.avail_out;
  }

 private:
  z_stream stream_{};
  bool in_member_ = true;
};

class ZstdCodec final : public ByteStream::Codec {
 public:
  std::size_t read(File& file, char* out, std::size_t size) override {
    ZSTD_outBuffer output{out, size, 0};
    while (output.pos == 0) {
      const std::string_view bytes = file.bytes();
      if (bytes.empty() && left_in_frame_ == 0) return 0;
      ZSTD_inBuffer input{bytes.data(), bytes.size(), 0};
      left_in_frame_ = ZSTD_decompressStream(stream_.get(), &output, &input);
      file.consume(input.pos);
      if (ZSTD_isError(left_in_frame_))
        file.fail("damaged", fmt::format("damaged zstd data ({})", ZSTD_getErrorName(left_in_frame_)));
      if (bytes.empty() && output.pos == 0) file.fail("truncated", "the zstd data is cut short");
    }
    return output.pos;
  }

 private:
  std::unique_ptr<ZSTD_DStream, std::size_t (*)(ZSTD_DStream*)> stream_{ZSTD_createDStream(), &ZSTD_freeDStream};
  std::size_t left_in_frame_ = 0;  // 0: at the end of a frame
};

class XzCodec final : public ByteStream::Codec {
 public:
  XzCodec() {
    constexpr std::uint64_t most_memory = std::uint64_t{256} << 20;  // xz -9 takes 65 MiB
    DUJIANG_CHECK(lzma_stream_decoder(&stream_, most_memory, LZMA_CONCATENATED) == LZMA_OK, "liblzma: no memory");
  }
  ~XzCodec() override { lzma_end(&stream_); }

  std::size_t read(File& file, char* out, std::size_t size) override {
    stream_.next_out = reinterpret_cast<std::uint8_t*>(out);
    stream_.avail_out = size;
    while (!ended_ && stream_.avail_out == size) {
      const std::string_view bytes = file.bytes();
      stream_.next_in = reinterpret_cast<const std::uint8_t*>(bytes.data());
      stream_.avail_in = bytes.size();
      const lzma_ret status = lzma_code(&stream_, bytes.empty() ? LZMA_FINISH : LZMA_RUN);
      file.consume(bytes.size() - stream_.avail_in);
      ended_ = status == LZMA_STREAM_END;
      if (status == LZMA_BUF_ERROR) file.fail("truncated", "the xz data is cut short");
      if (status == LZMA_MEMLIMIT_ERROR) file.fail("damaged", "xz data that takes more than 256 MiB to decompress");
      if (status != LZMA_OK && !ended_)
        file.fail("damaged", fmt::format("damaged xz data (liblzma's error {})", static_cast<int>(status)));
    }
    return size - stream_.avail_out;
  }

 private:
  lzma_stream stream_ = LZMA_STREAM_INIT;
  bool ended_ = false;
};

}  // namespace

ByteStream::ByteStream(const std::string& path, double max_expansion, Sha256* digest)
    : file_(std::make_unique<File>(path, digest)), max_expansion_(max_expansion) {
  const std::string_view head = file_->bytes();
  if (head.starts_with("\x1F\x8B")) {
    codec_ = std::make_unique<GzipCodec>();
  } else if (head.starts_with("\x28\xB5\x2F\xFD")) {
    codec_ = std::make_unique<ZstdCodec>();
  } else if (head.starts_with(std::string_view("\xFD\x37\x7A\x58\x5A\0", 6))) {
    codec_ = std::make_unique<XzCodec>();
  } else {
    codec_ = std::make_unique<PlainCodec>();
    max_expansion_ = 0;
  }
}

ByteStream::~ByteStream() = default;
ByteStream::ByteStream(ByteStream&&) noexcept = default;

void ByteStream::drain() {
  for (std::string_view bytes; !(bytes = file_->bytes()).empty();) file_->consume(bytes.size());
}

std::size_t ByteStream::read(char* out, std::size_t size) {
  constexpr std::uint64_t harmless = std::uint64_t{64} << 20;
  const std::size_t got = codec_->read(*file_, out, size);
  produced_ += got;
  const auto most = max_expansion_ * static_cast<double>(file_->total());
  if (max_expansion_ > 0 && produced_ > harmless && static_cast<double>(produced_) > most)
    file_->fail("zip_bomb",
                fmt::format("{} compressed bytes became more than {}: not text", file_->total(), produced_));
  return got;
}

void ByteStream::check_unchanged() const {
  file_->check_unchanged();
}

bool LineReader::next(std::string& line) {
  line.clear();
  for (;;) {
    if (begin_ == end_) {
      begin_ = 0;
      end_ = stream_.read(buffer_.data(), buffer_.size());
      if (end_ == 0) break;
    }
    const char* start = buffer_.data() + begin_;
    const void* newline = std::memchr(start, '\n', end_ - begin_);
    const std::size_t length =
        newline ? static_cast<std::size_t>(static_cast<const char*>(newline) - start) + 1 : end_ - begin_;
    line.append(start, length);
    begin_ += length;
    if (newline) break;
  }
  offset_ += line.size();
  return !line.empty();
}

std::string read_all(const std::string& path) {
  ByteStream stream(path);
  std::string out;
  std::vector<char> buffer(1 << 16);
  while (const std::size_t got = stream.read(buffer.data(), buffer.size())) out.append(buffer.data(), got);
  return out;
}

}  // namespace dujiang::data
