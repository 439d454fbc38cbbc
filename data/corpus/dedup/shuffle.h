#pragma once
// How records come from the tasks of one phase to those of the next: each task writes one file with a section for each
// task of the next phase, which reads its section of every file.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "framework/base/files.h"

namespace dujiang::data {

/// A file of fixed-size records in sections, written from front to back, whole or not at all.
class SectionWriter {
 public:
  /// Makes the file's folder where there is none. UserError naming the file when it can't be created.
  SectionWriter(std::filesystem::path path, std::size_t record_size, std::uint64_t sections);
  /// Sections may be left out but not gone back to.
  void append(std::uint64_t section, const void* records, std::size_t count);
  void commit();

  struct Entry {
    std::uint64_t begin, count, checksum;  // in records; XXH3 of the section's bytes
  };

 private:
  void close_section();
  void flush();

  DurableFile file_;
  std::size_t record_size_;
  std::uint64_t records_ = 0, section_ = 0;
  std::vector<Entry> index_;
  struct Hasher;
  std::shared_ptr<Hasher> hasher_;  // of the section that is being written
  std::string buffer_;
};

/// Reads such a file by sections or by records, without keeping any of it.
class SectionReader {
 public:
  /// UserError naming the file when it can't be read or isn't a whole file of such records.
  SectionReader(std::filesystem::path path, std::size_t record_size);
  ~SectionReader();
  SectionReader(SectionReader&& other) noexcept;
  SectionReader& operator=(SectionReader&&) = delete;

  std::uint64_t sections() const { return sections_; }
  std::uint64_t records() const { return records_; }
  /// Appends a section's records. UserError when they aren't those that were written.
  template <class Record>
  void append_section(std::uint64_t section, std::vector<Record>& out) const {
    static_assert(std::is_trivially_copyable_v<Record>);
    const auto entry = this->entry(section);
    const std::size_t before = out.size();
    out.resize(before + entry.count);
    read_section(section, entry, out.data() + before);
  }
  /// One record of the file, unchecked.
  void read_record(std::uint64_t record, void* out) const;

 private:
  SectionWriter::Entry entry(std::uint64_t section) const;
  void read_section(std::uint64_t section, const SectionWriter::Entry& entry, void* out) const;
  void read_at(std::uint64_t offset, void* out, std::size_t bytes) const;

  std::filesystem::path path_;
  int fd_ = -1;
  std::size_t record_size_;
  std::uint64_t sections_ = 0, records_ = 0;
};

/// Bytes that are appended, and read back at any place until the object goes. The file loses its name as soon as it is
/// open, so that nothing stays of it.
class ScratchFile {
 public:
  /// Makes the folder where there is none. UserError naming the file.
  explicit ScratchFile(std::filesystem::path path);
  ~ScratchFile();
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;
  void append(const void* bytes, std::size_t count);
  void read(std::uint64_t offset, void* out, std::size_t count) const;

 private:
  std::filesystem::path path_;
  int fd_ = -1;
};

/// One task's records on their way to the sections.
template <class Record>
class Shuffle {
  static_assert(std::is_trivially_copyable_v<Record>);  // and without padding, or files of equal records differ

 public:
  explicit Shuffle(std::uint64_t sections) : sections_(sections) {}
  void add(std::uint64_t section, const Record& record) { sections_[section].push_back(record); }
  /// Each section in the order of its records' additions.
  void write(const std::filesystem::path& path) const {
    SectionWriter writer(path, sizeof(Record), sections_.size());
    for (std::size_t s = 0; s < sections_.size(); ++s) writer.append(s, sections_[s].data(), sections_[s].size());
    writer.commit();
  }

 private:
  std::vector<std::vector<Record>> sections_;
};

/// Splitmix64's finaliser, a bijection: every bit of x moves every bit of the result.
constexpr std::uint64_t mixed(std::uint64_t x) {
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
  x = (x ^ x >> 27) * 0x94D049BB133111EBu;
  return x ^ x >> 31;
}

/// The section of a hash that is spread evenly over 64 bits.
constexpr std::uint64_t section_of(std::uint64_t hash, std::uint64_t sections) {
  return (hash >> 32) * sections >> 32;
}

}  // namespace dujiang::data
