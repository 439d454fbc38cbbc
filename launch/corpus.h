#pragma once
// A config's text as the subcommands take it.

#include <memory>
#include <string_view>
#include <vector>

#include "comm/communicator.h"
#include "data/corpus/filter/contamination.h"
#include "data/corpus/pipeline/corpus_build.h"
#include "framework/train/config.h"
#include "launch/command.h"

namespace dujiang::launch {

/// The processes that build together: those of mpirun or srun, or this one alone. They may wait for one another for as
/// long as it takes.
std::unique_ptr<comm::Communicator> builders(const train::Config& config);

/// The build that a config describes, in config.data.path. The split's seed is fixed: runs with other seeds hold out
/// the same documents. The communicator and the progress outlive it. append: to the dataset that is there.
std::unique_ptr<data::CorpusBuild> begin_build(const train::Config& config, comm::Communicator& communicator,
                                               Progress& progress, bool append = false);

/// The evaluation texts that its documents are compared with.
std::vector<data::EvaluationFile> evaluation_files(const data::CorpusBuild& build);

/// The documents that stay one after the other, in the order of the input. After choose().
class ChosenText {
 public:
  explicit ChosenText(const data::CorpusBuild& build) : build_(build) {}

  struct Document {
    std::string_view text;  // valid until the next call
    std::uint32_t source = 0;
    bool held_out = false;
    std::uint64_t hash = 0;
  };
  /// False at the end.
  bool next(Document& out);

 private:
  const data::CorpusBuild& build_;
  std::unique_ptr<data::ChosenPiece> piece_;
  std::size_t next_piece_ = 0, next_document_ = 0;
};

}  // namespace dujiang::launch
