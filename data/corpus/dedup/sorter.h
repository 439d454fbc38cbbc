#pragma once
// Sorting of more records than a task may hold.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <utility>
#include <vector>

#include "data/corpus/dedup/shuffle.h"

namespace dujiang::data {

/// Records in the order of <, of which some `bytes` are held: what is more lies in sorted runs of a scratch file. Those
/// neither of which is less come in any order.
template <class Record>
class Sorter {
  static_assert(std::is_trivially_copyable_v<Record>);

 public:
  /// The scratch file is made where it is needed.
  Sorter(std::filesystem::path scratch, std::size_t bytes)
      : path_(std::move(scratch)), most_(std::max<std::size_t>(bytes / sizeof(Record), 1)) {}

  void add(const Record& record) {
    records_.push_back(record);
    if (records_.size() >= most_) spill();
  }
  /// All of a section, which is much smaller than what may be held.
  void add_section(const SectionReader& reader, std::uint64_t section) {
    reader.append_section(section, records_);
    if (records_.size() >= most_) spill();
  }

  /// Calls body(record) for all. Once.
  template <class Body>
  void for_each(Body&& body) {
    if (!runs_.empty()) return merge(body);
    std::sort(records_.begin(), records_.end());
    for (const auto& record : records_) body(record);
  }

 private:
  struct Run {
    std::uint64_t next, end;      // in the scratch file's records: what is yet to be read
    std::vector<Record> block{};  // read
    std::size_t at = 0;           // in the block
  };

  void spill() {
    if (records_.empty()) return;
    if (!file_) file_.emplace(path_);
    std::sort(records_.begin(), records_.end());
    file_->append(records_.data(), records_.size() * sizeof(Record));
    const std::uint64_t begin = runs_.empty() ? 0 : runs_.back().end;
    runs_.push_back({begin, begin + records_.size()});
    records_.clear();
  }

  template <class Body>
  void merge(Body&& body) {
    spill();
    std::vector<Record>().swap(records_);
    const std::size_t block = std::max<std::size_t>(most_ / runs_.size(), 1);
    const auto later = [&](std::size_t a, std::size_t b) {
      return runs_[b].block[runs_[b].at] < runs_[a].block[runs_[a].at];
    };
    std::vector<std::size_t> heap;  // the run with the least record in front
    for (std::size_t r = 0; r < runs_.size(); ++r) {
      fill(runs_[r], block);
      heap.push_back(r);
    }
    std::make_heap(heap.begin(), heap.end(), later);
    while (!heap.empty()) {
      std::pop_heap(heap.begin(), heap.end(), later);
      auto& run = runs_[heap.back()];
      body(run.block[run.at]);
      if (++run.at < run.block.size() || fill(run, block)) {
        std::push_heap(heap.begin(), heap.end(), later);
      } else {
        heap.pop_back();
      }
    }
  }

  bool fill(Run& run, std::size_t most) {
    run.block.resize(std::min<std::uint64_t>(run.end - run.next, most));
    run.at = 0;
    file_->read(run.next * sizeof(Record), run.block.data(), run.block.size() * sizeof(Record));
    run.next += run.block.size();
    return !run.block.empty();
  }

  std::filesystem::path path_;
  std::size_t most_;
  std::vector<Record> records_;
  std::optional<ScratchFile> file_;
  std::vector<Run> runs_;
};

}  // namespace dujiang::data
