#pragma once
// What a step of a run saw, down to the bytes of source files; and which steps saw a file.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/loader/sequences.h"
#include "framework/train/config.h"

namespace dujiang::train {

class DataTrace {
 public:
  /// A run's directory (its config.yaml and loader.json say how its sequences were made), or a config of a run that is
  /// yet to be. UserError when its datasets are not there or not what they were.
  explicit DataTrace(const std::filesystem::path& run_or_config);

  /// Tokens [first, first + count) of a document, at `at` in a sequence.
  struct Passage {
    std::int64_t document, first, count, at;  // the document's number in its dataset's split
    std::string source, licence;
    std::string file;             ///< as the shard names it: bytes in any encoding
    std::uint64_t offset, bytes;  ///< of the raw document in that file, decompressed
  };
  struct Sequence {
    std::int64_t sequence;  ///< counted from the start of training
    std::string dataset;    ///< and its source, in a blend of sources
    std::int64_t epoch;     ///< of the dataset, from 0
    std::vector<Passage> passages;
  };
  /// Those of step `step` (from 1), in the order of the batch: all, or the part that rank `rank` of `ranks` takes.
  std::vector<Sequence> step(std::int64_t step, int rank = 0, int ranks = 1);

  struct Sighting {
    std::int64_t step, sequence, document;
    std::string dataset;
  };
  /// Where documents of a file are seen in steps 1 to `steps`. UserError when no document is of that file.
  std::vector<Sighting> file(const std::string& path, std::int64_t steps);

  /// Steps that the run has done so far, or, before it began, is to do.
  std::int64_t steps() const { return steps_; }
  const Config& config() const { return config_; }

 private:
  Config config_;
  std::int64_t steps_ = 0;
  std::unique_ptr<data::Sequences> sequences_;
};

}  // namespace dujiang::train
