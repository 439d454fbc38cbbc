#include "data/corpus/read/input.h"

#include <zlib.h>
#include <zstd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "framework/base/check.h"

namespace dujiang::data {

struct ByteStream::Source {
  virtual ~Source() = default;
  virtual std::size_t read(char* out, std::size_t size) = 0;
};

namespace {

// zlib reads plain files as they are.
class GzipSource final : public ByteStream::Source {
 public:
  explicit GzipSource(const std::string& path) : path_(path), file_(gzopen(path.c_str(), "rb")) {
    if (!file_) fail_user("{}: can't be read: {}", path, std::strerror(errno));
    gzbuffer(file_, 1 << 17);
  }
  ~GzipSource() override { gzclose(file_); }

  std::size_t read(char* out, std::size_t size) override {
    const int got = gzread(file_, out, static_cast<unsigned>(std::min<std::size_t>(size, 1 << 30)));
    int code = Z_OK;
    const char* message = gzerror(file_, &code);
    if (got < 0 || code == Z_BUF_ERROR) {
      fail_user("{}: {}", path_,
                code == Z_ERRNO ? std::strerror(errno) : fmt::format("damaged or cut short gzip data ({})", message));
    }
    return static_cast<std::size_t>(got);
  }

 private:
  std::string path_;
  gzFile file_;
};

class ZstdSource final : public ByteStream::Source {
 public:
  explicit ZstdSource(const std::string& path)
      : path_(path),
        file_(std::fopen(path.c_str(), "rb"), &std::fclose),
        stream_(ZSTD_createDStream(), &ZSTD_freeDStream),
        buffer_(ZSTD_DStreamInSize()) {
    if (!file_) fail_user("{}: can't be read: {}", path, std::strerror(errno));
  }

  std::size_t read(char* out, std::size_t size) override {
    ZSTD_outBuffer output{out, size, 0};
    while (output.pos == 0) {
      if (input_.pos == input_.size) {
        input_ = {buffer_.data(), std::fread(buffer_.data(), 1, buffer_.size(), file_.get()), 0};
        if (std::ferror(file_.get())) fail_user("{}: reading failed: {}", path_, std::strerror(errno));
        if (input_.size == 0) {
          if (left_in_frame_ != 0) fail_user("{}: zstd data is cut short", path_);
          return 0;
        }
      }
      left_in_frame_ = ZSTD_decompressStream(stream_.get(), &output, &input_);
      if (ZSTD_isError(left_in_frame_))
        fail_user("{}: damaged zstd data ({})", path_, ZSTD_getErrorName(left_in_frame_));
    }
    return output.pos;
  }

 private:
  std::string path_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
  std::unique_ptr<ZSTD_DStream, std::size_t (*)(ZSTD_DStream*)> stream_;
  std::vector<char> buffer_;
  ZSTD_inBuffer input_{nullptr, 0, 0};
  std::size_t left_in_frame_ = 0;  // 0: at the end of a frame
};

bool starts_like_zstd(const std::string& path) {
  constexpr unsigned char magic[4] = {0x28, 0xB5, 0x2F, 0xFD};
  unsigned char found[4] = {};
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (!file) fail_user("{}: can't be read: {}", path, std::strerror(errno));
  const std::size_t got = std::fread(found, 1, 4, file);
  const bool failed = std::ferror(file) != 0;
  const int error = errno;
  std::fclose(file);
  if (failed) fail_user("{}: can't be read: {}", path, std::strerror(error));
  return got == 4 && std::memcmp(found, magic, 4) == 0;
}

}  // namespace

ByteStream::ByteStream(const std::string& path) {
  if (starts_like_zstd(path)) {
    source_ = std::make_unique<ZstdSource>(path);
  } else {
    source_ = std::make_unique<GzipSource>(path);
  }
}

ByteStream::~ByteStream() = default;

std::size_t ByteStream::read(char* out, std::size_t size) {
  return source_->read(out, size);
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
