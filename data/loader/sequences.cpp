#include "data/loader/sequences.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "framework/base/check.h"

namespace dujiang::data {

std::string Component::name() const {
  return source.empty() ? dataset->folder().string() : fmt::format("{}: {}", dataset->folder().string(), source);
}

std::vector<Generation> first_generation(const Component& component) {
  return {{0, 0, std::ssize(component.dataset->shards()), component.dataset->fingerprint()}};
}

Sequences::Sequences(std::vector<Component> components, std::vector<BlendPhase> phases,
                     std::vector<std::vector<Generation>> generations, std::int64_t sequence_length, Packing packing,
                     std::optional<std::uint64_t> seed)
    : components_(std::move(components)),
      blend_(phases.empty() ? std::vector<BlendPhase>{{0, {1.0}}} : std::move(phases), components_.size()),
      length_(sequence_length) {
  DUJIANG_CHECK(generations.size() == components_.size(), "{} components, generations of {}", components_.size(),
                generations.size());
  for (std::size_t c = 0; c < components_.size(); ++c) {
    const auto& dataset = components_[c].dataset;
    if (dataset->has_labels() != components_[0].dataset->has_labels())
      fail_user("{} {} labels, unlike {}: all components of a blend have them or none", components_[c].name(),
                dataset->has_labels() ? "has" : "lacks", components_[0].name());
    samplers_.emplace_back(dataset, components_[c].source, std::move(generations[c]),
                           Sampler::Options{length_, packing, seed, c});
  }
}

void Sequences::fill(std::int64_t first, std::int64_t count, Batch& batch, std::int64_t stride, std::int64_t end) {
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
  // A row is looked up some rows early, as its tokens lie anywhere in memory and take their time.
  constexpr std::int64_t ahead = 4;
  struct Next {
    Sampler* sampler;
    Sampler::Row found;
  };
  std::array<Next, ahead + 1> rows;
  const auto find = [&](std::int64_t row) {
    const std::int64_t k = first + row * stride;
    if (row >= count || k >= end) return;
    const auto pick = blend_.at(k);
    auto& [sampler, found] = rows[static_cast<std::size_t>(row % (ahead + 1))];
    sampler = &samplers_[pick.component];
    sampler->find(pick.index, found);
  };
  for (std::int64_t row = 0; row < ahead; ++row) find(row);
  for (std::int64_t row = 0; row < count; ++row) {
    find(row + ahead);
    if (first + row * stride < end) {
      const auto& [sampler, found] = rows[static_cast<std::size_t>(row % (ahead + 1))];
      sampler->fill_row(found, row, batch);
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
