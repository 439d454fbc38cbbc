#pragma once
// The input as a run of pieces of raw documents, handed out to any number of threads.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "data/corpus/pipeline/corpus_build.h"

namespace dujiang::data {

/// Consecutive raw documents of one source.
struct RawPiece {
  std::uint32_t unit = 0, number = 0;
  std::uint64_t stamp = 0;  // of the unit's files as they were when this had been read
  std::uint32_t source = 0;
  std::vector<RawDocument> documents;
  std::vector<std::uint32_t> files;  // of each document, into the plan's
  std::vector<FileFault> faults;     // of the files that were ended here
};

/// Where there are many units, each is read by one process; where there are few, every process reads all of them and
/// keeps some of the pieces: reading costs little beside what follows. Either way the pieces are the same, unless a
/// file changes meanwhile: then their stamps differ, and the unit is to be read `alone`, by one process from front to
/// back.
class PieceFeed {
 public:
  struct UnitRead {
    std::uint32_t pieces = 0;
    std::uint64_t stamp = 0;
    std::string digests;  // a line for each file
  };
  /// `done(unit, piece)` tells which pieces needn't be handed out, `unit_done` of which units the number of pieces is
  /// known. `unit_read` is called when a unit ends in the process that is to note it.
  PieceFeed(const BuildConfig& config, const InputPlan& plan, const Team& team, bool alone,
            std::function<bool(std::uint32_t, std::uint32_t)> done,
            std::function<std::optional<std::uint32_t>(std::uint32_t)> unit_done,
            std::function<void(std::uint32_t, const UnitRead&)> unit_read);

  /// The next piece of this process that isn't done; false at the end. Thread-safe.
  bool next(RawPiece& piece);
  /// Raw bytes read so far.
  std::uint64_t bytes() const { return bytes_; }

 private:
  bool all_read_all() const;
  bool notes(std::uint32_t unit) const { return !all_read_all() || team_.owns(unit); }
  bool owns(std::uint32_t unit, std::uint32_t piece) const;
  bool begin_unit();
  void fill(RawPiece& piece, bool keep);
  void end_file(RawPiece& piece);

  const BuildConfig& config_;
  const InputPlan& plan_;
  const Team& team_;
  bool alone_;
  std::function<bool(std::uint32_t, std::uint32_t)> done_;
  std::function<std::optional<std::uint32_t>(std::uint32_t)> unit_done_;
  std::function<void(std::uint32_t, const UnitRead&)> unit_read_;

  std::mutex mutex_;
  std::uint32_t unit_ = 0, piece_ = 0;
  bool open_ = false;     // unit_ is being read
  std::size_t file_ = 0;  // in the unit
  std::string digests_;   // of the unit's files so far
  std::optional<DocumentReader> reader_;
  std::atomic<std::uint64_t> bytes_ = 0;
};

}  // namespace dujiang::data
