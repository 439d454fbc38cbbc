#include "data/corpus/piece_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "framework/base/check.h"
#include "framework/base/files.h"

namespace dujiang::data {
namespace {

struct Header {
  char magic[8];
  std::uint64_t documents, text_bytes;
};
constexpr char magic[8] = {'d', 'j', 'p', 'i', 'e', 'c', 'e', '1'};

template <class T>
std::string_view bytes_of(const T* values, std::size_t count) {
  return {reinterpret_cast<const char*>(values), count * sizeof(T)};
}

}  // namespace

void PieceWriter::add(const TextDocument& document) {
  const std::uint64_t begin = text_.size();
  text_ += document.text;
  records_.push_back({begin, text_.size(), document.offset, document.bytes, document.source, document.file,
                      document.quality, static_cast<std::uint8_t>(document.encoding),
                      static_cast<std::uint8_t>(document.script), 0});
}

void PieceWriter::write(const std::filesystem::path& path) const {
  Header header{{}, records_.size(), text_.size()};
  std::memcpy(header.magic, magic, sizeof magic);
  DurableFile file(path);
  file.write(bytes_of(&header, 1));
  file.write(bytes_of(records_.data(), records_.size()));
  file.write(text_);
  file.commit();
}

PieceReader::PieceReader(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat status {};
  if (fd < 0 || ::fstat(fd, &status) != 0) {
    const int error = errno;
    if (fd >= 0) ::close(fd);
    fail_user("{}: cannot be read: {}", path.string(), std::strerror(error));
  }
  size_ = static_cast<std::size_t>(status.st_size);
  map_ = size_ == 0 ? MAP_FAILED : ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
  const int error = errno;
  ::close(fd);
  if (size_ != 0 && map_ == MAP_FAILED) fail_user("{}: cannot be mapped: {}", path.string(), std::strerror(error));
  const auto* header = static_cast<const Header*>(map_);
  const bool whole = size_ >= sizeof(Header) && std::memcmp(header->magic, magic, sizeof magic) == 0 &&
                     size_ == sizeof(Header) + header->documents * sizeof(PieceWriter::Record) + header->text_bytes;
  if (!whole) {
    if (size_ != 0) ::munmap(map_, size_);
    fail_user("{}: not a whole piece: remove it and start again", path.string());
  }
  records_ = {reinterpret_cast<const PieceWriter::Record*>(header + 1), header->documents};
  text_ = {reinterpret_cast<const char*>(records_.data() + records_.size()), header->text_bytes};
}

PieceReader::~PieceReader() {
  if (map_) ::munmap(map_, size_);
}

PieceReader::PieceReader(PieceReader&& other) noexcept
    : map_(std::exchange(other.map_, nullptr)), size_(other.size_), records_(other.records_), text_(other.text_) {}

TextDocument PieceReader::document(std::size_t index) const {
  const auto& record = records_[index];
  return {std::string(text(index)),
          record.source,
          record.file,
          record.offset,
          record.bytes,
          static_cast<Encoding>(record.encoding),
          static_cast<Script>(record.script),
          record.quality};
}

}  // namespace dujiang::data
