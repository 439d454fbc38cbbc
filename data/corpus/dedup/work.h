#pragma once
// What the tasks of deduplication share: how a document is addressed, where the texts are, where the work files go.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string_view>
#include <vector>

namespace dujiang::data {

/// Piece (40 bits) and index in the piece (24 bits). Ids are ordered as the documents are in the input.
using DocumentId = std::uint64_t;

constexpr DocumentId document_id(std::uint64_t piece, std::uint64_t index) {
  return piece << 24 | index;
}
constexpr std::uint64_t piece_of(DocumentId id) {
  return id >> 24;
}
constexpr std::uint32_t index_of(DocumentId id) {
  return static_cast<std::uint32_t>(id & 0xFFFFFF);
}

struct DedupWork {
  std::filesystem::path folder;  // exists; each phase makes a folder in it
  std::uint64_t pieces = 0;
  std::uint32_t partitions = 1;                                     // results don't depend on it
  std::function<std::filesystem::path(std::uint64_t piece)> texts;  // the piece file
  std::size_t sort_bytes = std::size_t{64} << 20;  // of records that a task sorts in memory; nor on this

  /// FOLDER/PHASE/TASK.
  std::filesystem::path file(std::string_view phase, std::uint64_t task) const;
  /// FOLDER/PHASE/TASK.sort, for what doesn't fit in memory.
  std::filesystem::path scratch(std::string_view phase, std::uint64_t task) const;
};

/// Enough partitions that one's records fit in memory (about those of four pieces), few enough that reading a section
/// of every piece's file costs little: at most 1,024, so that a very large corpus's are sorted through scratch files.
std::uint32_t partitions_for(std::uint64_t pieces);

/// A number of independent tasks. All of a phase's are done before the next begins; a task whose output exists is done.
struct Phase {
  std::string_view name;
  std::uint64_t tasks;
  std::function<std::filesystem::path(std::uint64_t task)> output;  // written last of the task's files, atomically
  std::function<void(std::uint64_t task)> run;                      // may run in any thread of any process
};

/// Runs task(i) for i in [0, n), in any order and by any number of threads; returns when all are done.
using Runner = std::function<void(std::uint64_t n, const std::function<void(std::uint64_t)>& task)>;

/// Runs what isn't done of the phases, one phase after the other.
void run_phases(const std::vector<Phase>& phases, const Runner& runner);

}  // namespace dujiang::data
