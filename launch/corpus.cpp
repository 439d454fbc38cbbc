#include "launch/corpus.h"

#include <utility>

namespace dujiang::launch {
namespace {

struct Stopped {};

}  // namespace

data::CorpusConfig corpus_of(const train::Config& config) {
  data::CorpusConfig corpus;
  corpus.sources.assign(config.data.sources.begin(), config.data.sources.end());
  corpus.filter = config.data.filter;
  corpus.held_out_share = config.data.held_out_share;
  return corpus;
}

DocumentStream::DocumentStream(data::CorpusConfig config)
    : config_(std::move(config)), thread_([this] { produce(); }) {}

DocumentStream::~DocumentStream() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void DocumentStream::produce() {
  std::exception_ptr failure;
  try {
    report_ = data::build_corpus(config_, [this](data::PipelineDocument&& document) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stopping_ || ready_.size() < capacity; });
      if (stopping_) throw Stopped{};
      ready_.push_back(std::move(document));
      changed_.notify_all();
    });
  } catch (const Stopped&) {
  } catch (...) {
    failure = std::current_exception();
  }
  const std::lock_guard lock(mutex_);
  failure_ = failure;
  finished_ = true;
  changed_.notify_all();
}

bool DocumentStream::next(data::PipelineDocument& document) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return finished_ || !ready_.empty(); });
  if (ready_.empty()) {
    if (failure_) std::rethrow_exception(failure_);
    return false;
  }
  document = std::move(ready_.front());
  ready_.pop_front();
  changed_.notify_all();
  return true;
}

}  // namespace dujiang::launch
