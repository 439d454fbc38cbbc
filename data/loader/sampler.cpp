#include "data/loader/sampler.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "framework/base/check.h"
#include "framework/base/philox.h"

namespace dujiang::data {
namespace {

constexpr std::int64_t anchor_every = 8;

}  // namespace

std::string_view name_of(Packing packing) {
  return packing == Packing::documents ? "documents" : "none";
}

Packing packing_of(std::string_view name) {
  for (const auto packing : {Packing::documents, Packing::none})
    if (name == name_of(packing)) return packing;
  fail_user("packing '{}' is unknown: use documents or none", name);
}

Sampler::Sampler(std::shared_ptr<const Dataset> dataset, std::int64_t sequence_length, Packing packing,
                 std::optional<std::uint64_t> seed)
    : dataset_(std::move(dataset)), length_(sequence_length), packing_(packing), seed_(seed) {
  if (length_ < 1) fail_user("sequence_length is {}, expected at least 1", length_);
  sequences_ = (dataset_->tokens() + length_ - 1) / length_;
  scratch_.resize(static_cast<std::size_t>(length_ + 1));
}

std::int64_t Sampler::document_at(const Epoch& epoch, std::int64_t place) const {
  return epoch.documents ? (*epoch.documents)(place) : place;
}

const Sampler::Epoch& Sampler::epoch(std::int64_t number) {
  if (epoch_ && (epoch_->number == number || !seed_)) return *epoch_;
  Epoch fresh{number, {}, {}, {}};
  if (seed_) {
    const auto e = static_cast<std::uint64_t>(number);
    fresh.documents.emplace(dataset_->documents(), *seed_, stream_of("data/documents"), e);
    fresh.sequences.emplace(sequences_, *seed_, stream_of("data/sequences"), e);
  }
  std::int64_t offset = 0;
  for (std::int64_t place = 0; place < dataset_->documents(); ++place) {
    if (place % anchor_every == 0) fresh.anchors.push_back(offset);
    offset += dataset_->locate(document_at(fresh, place)).tokens;
  }
  if (offset != dataset_->tokens())
    fail_user("{}: the documents of split '{}' hold {} tokens, expected {}: a shard's /doc_offsets are damaged",
              dataset_->folder().string(), dataset_->split(), offset, dataset_->tokens());
  return epoch_.emplace(std::move(fresh));
}

void Sampler::gather(const Epoch& epoch, std::int64_t start, std::int64_t count) {
  starts_.clear();
  // The last anchor at or before `start`; the walk below passes the documents between it and `start`.
  std::int64_t place = (std::ranges::upper_bound(epoch.anchors, start) - epoch.anchors.begin() - 1) * anchor_every;
  std::int64_t skip = start - epoch.anchors[static_cast<std::size_t>(place / anchor_every)];
  for (std::int64_t filled = 0; filled < count; ++place) {
    const Dataset::Place text = dataset_->locate(document_at(epoch, place));
    if (skip >= text.tokens) {
      skip -= text.tokens;
      continue;
    }
    if (filled > 0) starts_.push_back(filled);
    const std::int64_t take = std::min(text.tokens - skip, count - filled);
    text.shard->read(text.start + skip, take, scratch_.data() + filled);
    filled += take;
    skip = 0;
  }
}

void Sampler::fill_row(std::int64_t row, std::int64_t k, Batch& batch) {
  const Epoch& now = epoch(k / sequences_);
  const std::int64_t cut = now.sequences ? (*now.sequences)(k % sequences_) : k % sequences_;
  const std::int64_t start = cut * length_, left = dataset_->tokens() - start;
  const std::int64_t used = std::min(length_, left), seen = std::min(length_ + 1, left);
  gather(now, start, seen);
  if (packing_ == Packing::none) starts_.clear();

  const std::int64_t base = row * length_;
  std::copy_n(scratch_.data(), used, batch.tokens.data() + base);
  std::copy_n(scratch_.data() + 1, seen - 1, batch.labels.data() + base);
  std::fill_n(batch.loss_weight.data() + base, seen - 1, 1.0f);
  std::int64_t weights = seen - 1;
  auto unlabel = [&](std::int64_t at) {
    batch.labels[static_cast<std::size_t>(base + at)] = no_label;
    batch.loss_weight[static_cast<std::size_t>(base + at)] = 0;
  };
  for (const std::int64_t at : starts_) {
    unlabel(at - 1);
    --weights;
  }
  for (std::int64_t at = seen - 1; at < length_; ++at) unlabel(at);
  std::fill_n(batch.tokens.data() + base + used, length_ - used, 0);
  batch.weight_sum += static_cast<double>(weights);

  starts_.push_back(used);  // padding, or the row's end
  std::int64_t from = 0;
  auto segment = [&](std::int64_t to) {
    if (to <= from) return;
    std::iota(batch.positions.data() + base + from, batch.positions.data() + base + to, 0);
    batch.segments.push_back(static_cast<std::int32_t>(base + to));
    from = to;
  };
  for (const std::int64_t at : starts_) segment(std::min(at, length_));
  segment(length_);
}

void Sampler::fill(std::int64_t first, std::int64_t count, Batch& batch, std::int64_t stride, std::int64_t end) {
  DUJIANG_CHECK(first >= 0 && count >= 0 && stride >= 1, "sequences [{}, {})", first, first + count);
  if (count * length_ > std::numeric_limits<std::int32_t>::max())
    fail_user("{} sequences of {} tokens are more than a batch of one rank can number; take fewer", count, length_);
  const auto size = static_cast<std::size_t>(count * length_);
  batch.sequences = count;
  batch.length = length_;
  batch.tokens.resize(size);
  batch.labels.resize(size);
  batch.loss_weight.resize(size);
  batch.positions.resize(size);
  batch.segments.assign(1, 0);
  batch.weight_sum = 0;
  for (std::int64_t row = 0; row < count; ++row) {
    if (const std::int64_t k = first + row * stride; k < end) {
      fill_row(row, k, batch);
      continue;
    }
    const std::int64_t base = row * length_;
    std::fill_n(batch.tokens.data() + base, length_, 0);
    std::fill_n(batch.labels.data() + base, length_, no_label);
    std::fill_n(batch.loss_weight.data() + base, length_, 0.0f);
    std::iota(batch.positions.data() + base, batch.positions.data() + base + length_, 0);
    batch.segments.push_back(static_cast<std::int32_t>(base + length_));
  }
}

}  // namespace dujiang::data
