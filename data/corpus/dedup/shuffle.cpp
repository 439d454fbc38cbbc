#include "data/corpus/dedup/shuffle.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "framework/base/check.h"

namespace dujiang::data {
namespace {

// A file ends in the index and this. The records come first, so that a writer need not know how many there will be.
struct Trailer {
  char magic[8];
  std::uint64_t record_size, sections, records;
  std::uint64_t checksum;  // of the above
};
constexpr char magic[8] = {'d', 'j', 's', 'e', 'c', 't', '0', '1'};

std::uint64_t checksum(const Trailer& trailer) {
  return XXH3_64bits(&trailer, offsetof(Trailer, checksum));
}

// Binds the place to the content: a damaged index is found too.
std::uint64_t bind(std::uint64_t content, std::uint64_t begin, std::uint64_t count) {
  const std::uint64_t all[] = {content, begin, count};
  return XXH3_64bits(all, sizeof all);
}

std::filesystem::path with_folder(std::filesystem::path path) {
  std::error_code error;
  std::filesystem::create_directories(path.parent_path(), error);
  if (error) fail_user("{}: cannot be created: {}", path.parent_path().string(), error.message());
  return path;
}

void read_all(const std::filesystem::path& path, int fd, std::uint64_t offset, void* out, std::size_t bytes) {
  char* to = static_cast<char*>(out);
  while (bytes > 0) {
    const ssize_t count = ::pread(fd, to, bytes, static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_user("{}: cannot be read: {}", path.string(), std::strerror(errno));
    if (count == 0) fail_user("{}: became shorter while it was read", path.string());
    to += count;
    offset += static_cast<std::uint64_t>(count);
    bytes -= static_cast<std::size_t>(count);
  }
}

}  // namespace

struct SectionWriter::Hasher {
  Hasher() : state(XXH3_createState()) { XXH3_64bits_reset(state); }
  ~Hasher() { XXH3_freeState(state); }
  XXH3_state_t* state;
};

SectionWriter::SectionWriter(std::filesystem::path path, std::size_t record_size, std::uint64_t sections)
    : file_(with_folder(std::move(path))),
      record_size_(record_size),
      index_(sections),
      hasher_(std::make_shared<Hasher>()) {}

void SectionWriter::append(std::uint64_t section, const void* records, std::size_t count) {
  DUJIANG_CHECK(section >= section_ && section < index_.size(), "section {} after {} of {}", section, section_,
                index_.size());
  while (section_ < section) close_section();
  const std::size_t bytes = count * record_size_;
  XXH3_64bits_update(hasher_->state, records, bytes);
  index_[section_].count += count;
  records_ += count;
  buffer_.append(static_cast<const char*>(records), bytes);
  if (buffer_.size() >= std::size_t{1} << 20) flush();
}

void SectionWriter::flush() {
  file_.write(buffer_);
  buffer_.clear();
}

void SectionWriter::close_section() {
  auto& entry = index_[section_++];
  entry.begin = records_ - entry.count;
  entry.checksum = bind(XXH3_64bits_digest(hasher_->state), entry.begin, entry.count);
  XXH3_64bits_reset(hasher_->state);
}

void SectionWriter::commit() {
  while (section_ < index_.size()) close_section();
  flush();
  Trailer trailer{{}, record_size_, index_.size(), records_, 0};
  std::memcpy(trailer.magic, magic, sizeof magic);
  trailer.checksum = checksum(trailer);
  file_.write(index_.data(), index_.size() * sizeof(Entry));
  file_.write(&trailer, sizeof trailer);
  file_.commit();
}

SectionReader::SectionReader(std::filesystem::path path, std::size_t record_size)
    : path_(std::move(path)), fd_(::open(path_.c_str(), O_RDONLY | O_CLOEXEC)), record_size_(record_size) {
  if (fd_ < 0) fail_user("{}: cannot be read: {}", path_.string(), std::strerror(errno));
  struct stat status {};
  Trailer trailer{};
  const bool stated = ::fstat(fd_, &status) == 0;
  const auto size = static_cast<std::uint64_t>(status.st_size);
  bool whole = stated && size >= sizeof trailer &&
               ::pread(fd_, &trailer, sizeof trailer, static_cast<off_t>(size - sizeof trailer)) ==
                   static_cast<ssize_t>(sizeof trailer);
  whole =
      whole && std::memcmp(trailer.magic, magic, sizeof magic) == 0 && trailer.checksum == checksum(trailer) &&
      size == trailer.records * trailer.record_size + trailer.sections * sizeof(SectionWriter::Entry) + sizeof trailer;
  if (!whole || trailer.record_size != record_size) {
    ::close(fd_);
    if (!whole) fail_user("{}: not a whole work file: remove it and start again", path_.string());
    fail_user("{}: its records have {} bytes, {} were expected: remove it and start again", path_.string(),
              trailer.record_size, record_size);
  }
  sections_ = trailer.sections;
  records_ = trailer.records;
}

SectionReader::~SectionReader() {
  if (fd_ >= 0) ::close(fd_);
}

SectionReader::SectionReader(SectionReader&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      record_size_(other.record_size_),
      sections_(other.sections_),
      records_(other.records_) {}

void SectionReader::read_at(std::uint64_t offset, void* out, std::size_t bytes) const {
  read_all(path_, fd_, offset, out, bytes);
}

SectionWriter::Entry SectionReader::entry(std::uint64_t section) const {
  DUJIANG_CHECK(section < sections_, "{}: section {} of {}", path_.string(), section, sections_);
  SectionWriter::Entry entry{};
  read_at(records_ * record_size_ + section * sizeof entry, &entry, sizeof entry);
  if (entry.begin > records_ || entry.count > records_ - entry.begin)
    fail_user("{}: section {} is damaged: remove the file and start again", path_.string(), section);
  return entry;
}

void SectionReader::read_section(std::uint64_t section, const SectionWriter::Entry& entry, void* out) const {
  const std::size_t bytes = entry.count * record_size_;
  read_at(entry.begin * record_size_, out, bytes);
  if (entry.checksum != bind(XXH3_64bits(out, bytes), entry.begin, entry.count))
    fail_user("{}: section {} is damaged: remove the file and start again", path_.string(), section);
}

void SectionReader::read_record(std::uint64_t record, void* out) const {
  DUJIANG_CHECK(record < records_, "{}: record {} of {}", path_.string(), record, records_);
  read_at(record * record_size_, out, record_size_);
}

ScratchFile::ScratchFile(std::filesystem::path path)
    : path_(with_folder(std::move(path))), fd_(::open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) {
  if (fd_ < 0) fail_user("{}: cannot be created: {}", path_.string(), std::strerror(errno));
  ::unlink(path_.c_str());
}

ScratchFile::~ScratchFile() {
  ::close(fd_);
}

void ScratchFile::append(const void* bytes, std::size_t count) {
  const char* from = static_cast<const char*>(bytes);
  while (count > 0) {
    const ssize_t written = ::write(fd_, from, count);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_user("{}: cannot be written: {}", path_.string(), std::strerror(errno));
    from += written;
    count -= static_cast<std::size_t>(written);
  }
}

void ScratchFile::read(std::uint64_t offset, void* out, std::size_t count) const {
  read_all(path_, fd_, offset, out, count);
}

}  // namespace dujiang::data
