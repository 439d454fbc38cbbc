#include "framework/parallel/data_parallel.h"

#include <chrono>

namespace dujiang::parallel {

DataParallel::DataParallel(nn::Module& model, std::span<nn::Module* const> blocks, Dtype dtype,
                           comm::Communicator& communicator)
    : communicator_(communicator) {
  const auto allocate = [&](std::size_t bytes) { return communicator.allocate(bytes); };
  std::set<nn::Parameter*> in_blocks;
  for (auto* block : blocks) {
    const auto parameters = block->parameters();
    in_blocks.insert(parameters.begin(), parameters.end());
    auto& bucket = *buckets_.emplace_back(std::make_unique<FlatBucket>(block->path(), parameters, dtype, allocate));
    block->wrap([this, &bucket](const Tensor& x, const nn::Module::Next& next) {
      return next(fn::identity(x, [this, &bucket] { launch(bucket); }));
    });
  }
  std::vector<nn::Parameter*> rest;
  for (auto* p : model.parameters())
    if (!in_blocks.contains(p)) rest.push_back(p);
  buckets_.push_back(std::make_unique<FlatBucket>("rest", rest, dtype, allocate));
}

void DataParallel::begin_micro_batch(bool first, bool last) {
  if (first)
    for (auto& bucket : buckets_) bucket->clear_gradients();
  reducing_ = last;
  launched_.clear();
}

void DataParallel::launch(FlatBucket& bucket) {
  if (!reducing_ || bucket.count() == 0 || !launched_.insert(&bucket).second) return;
  bucket.complete_gradients();
  if (communicator_.size() == 1) return;
  pending_.push_back(communicator_.all_reduce(comm::buffer_of(bucket.grad()), comm::Reduce::sum,
                                              default_stream(bucket.grad().device())));
}

double DataParallel::finish() {
  for (auto& bucket : buckets_) launch(*bucket);
  reducing_ = false;
  const auto start = std::chrono::steady_clock::now();
  for (const auto& work : pending_) work.wait_host();
  pending_.clear();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace dujiang::parallel
