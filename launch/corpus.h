#pragma once
// A config's text as the subcommands take it.

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "data/corpus/build/pipeline.h"
#include "framework/train/config.h"

namespace dujiang::launch {

/// The pipeline that a config describes. The split's seed is fixed: runs with other seeds hold out the same documents.
data::CorpusConfig corpus_of(const train::Config& config);

/// The pipeline's documents one after the other, prepared by a thread of its own a few ahead.
class DocumentStream {
 public:
  explicit DocumentStream(data::CorpusConfig config);
  ~DocumentStream();

  /// False at the end. Rethrows what the pipeline threw.
  bool next(data::PipelineDocument& document);
  /// After the end.
  const data::CorpusReport& report() const { return report_; }

 private:
  void produce();

  static constexpr std::size_t capacity = 64;
  data::CorpusConfig config_;
  data::CorpusReport report_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<data::PipelineDocument> ready_;
  std::exception_ptr failure_;
  bool finished_ = false, stopping_ = false;
  std::thread thread_;
};

}  // namespace dujiang::launch
