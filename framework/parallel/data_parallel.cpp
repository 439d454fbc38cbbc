#include "framework/parallel/data_parallel.h"

#include <algorithm>
#include <chrono>
#include <set>

#include "framework/autograd/functions.h"

namespace dujiang::parallel {
namespace {

// Blocks whose gradients are whole because they are still being reduced, in stages 2 and 3, while the next block writes
// its own.
constexpr std::size_t reductions_under_way = 1;

}  // namespace

DataParallel::DataParallel(nn::Module& model, std::span<nn::Module* const> blocks, const DataParallelOptions& options,
                           comm::Communicator& dp, const TensorParallel* tensor)
    : dp_(dp), tensor_(tensor), zero_(dp.size() == 1 ? 0 : options.zero), dtype_(options.dtype) {
  BucketOptions bucket{.dtype = options.dtype, .zero = zero_, .strict = options.strict, .reduce_each = zero_ >= 2};
  std::set<nn::Parameter*> in_blocks;
  for (auto* block : blocks) {
    const auto parameters = block->parameters();
    in_blocks.insert(parameters.begin(), parameters.end());
    const std::size_t i = buckets_.size();
    buckets_.push_back(std::make_unique<FlatBucket>(block->path(), parameters, bucket, dp));
    block->wrap([this, i](const Tensor& x, const nn::Module::Next& next) { return run_block(i, x, next); });
  }
  std::vector<nn::Parameter*> rest;
  for (auto* p : model.parameters())
    if (!in_blocks.contains(p)) rest.push_back(p);
  bucket.zero = std::min(zero_, 1);
  bucket.reduce_each = options.strict && zero_ >= 2;
  buckets_.push_back(std::make_unique<FlatBucket>("rest", rest, bucket, dp));
  model.wrap([this](const Tensor& x, const nn::Module::Next& next) {
    buckets_.back()->need_values();
    return next(x);
  });
}

FlatBucket::Range DataParallel::share_of(const nn::Parameter& parameter) const {
  for (const auto& bucket : buckets_) {
    for (const auto& piece : bucket->pieces()) {
      if (piece.parameter != &parameter) continue;
      const auto share = bucket->share_of(dp_.rank());
      const std::int64_t begin = std::clamp<std::int64_t>(share.begin - piece.offset, 0, piece.count);
      const std::int64_t end = std::clamp<std::int64_t>(share.begin + share.count - piece.offset, 0, piece.count);
      return {begin, end - begin};
    }
  }
  return {0, dp_.rank() == 0 ? parameter.shape.count() : 0};  // frozen: the same on all ranks
}

void DataParallel::begin_micro_batch(bool first, bool last) {
  first_ = first;
  last_ = last;
  gradients_of_.assign(buckets_.size(), Gradients::none);
  buckets_.back()->open_gradients(first);
  gradients_of_.back() = Gradients::open;
}

Tensor DataParallel::run_block(std::size_t i, const Tensor& x, const nn::Module::Next& next) {
  auto& bucket = *buckets_[i];
  const bool last_block = i + 2 == buckets_.size();
  bucket.fetch_values();
  if (!last_block) buckets_[i + 1]->fetch_values();
  bucket.need_values();
  Tensor y = next(fn::identity(x, [this, i] { gradients_complete(i); }));
  if (y.meta()) {
    y = fn::identity(y, [this, i] { before_backward(i); });
    if (last_block) return y;  // backward begins with it
  }
  bucket.drop_values();
  return y;
}

void DataParallel::before_backward(std::size_t i) {
  auto& bucket = *buckets_[i];
  bucket.fetch_values();
  if (i > 0) buckets_[i - 1]->fetch_values();
  bucket.need_values();
  if (zero_ >= 2) {
    while (reducing_.size() > reductions_under_way) settle_oldest();
  }
  bucket.open_gradients(first_);
  gradients_of_[i] = Gradients::open;
}

void DataParallel::gradients_complete(std::size_t i) {
  auto& bucket = *buckets_[i];
  gradients_of_[i] = Gradients::complete;
  bucket.complete_gradients();
  bucket.drop_values();
  if (tensor_ != nullptr && (last_ || bucket.reduces_each())) tensor_->complete_gradients(bucket.parameters());
  bucket.reduce_gradients(last_);
  reducing_.push_back(&bucket);
}

void DataParallel::settle_oldest() {
  reducing_.front()->settle_gradients(last_);
  reducing_.pop_front();
}

double DataParallel::finish_micro_batch() {
  for (std::size_t i = 0; i < buckets_.size(); ++i) {
    if (gradients_of_[i] == Gradients::none) before_backward(i);  // backward had nothing to do in it
    if (gradients_of_[i] == Gradients::open) gradients_complete(i);
  }
  const auto start = std::chrono::steady_clock::now();
  while (!reducing_.empty()) settle_oldest();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

void DataParallel::publish_values() {
  for (auto& bucket : buckets_) bucket->publish_values();
}

}  // namespace dujiang::parallel
