#include "data/loader/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "framework/base/check.h"
#include "framework/base/philox.h"

namespace dujiang::data {
namespace {

constexpr std::int64_t anchor_every = 4;

}  // namespace

std::string_view name_of(Packing packing) {
  return packing == Packing::documents ? "documents" : "none";
}

Packing packing_of(std::string_view name) {
  for (const auto packing : {Packing::documents, Packing::none})
    if (name == name_of(packing)) return packing;
  fail_user("packing '{}' is unknown: use documents or none", name);
}

Sampler::Sampler(std::shared_ptr<const Dataset> dataset, const std::string& source, std::vector<Generation> generations,
                 Options options)
    : length_(options.sequence_length),
      packing_(options.packing),
      seed_(options.seed),
      stream_(options.stream),
      weighted_(dataset->has_loss_weights()),
      labelled_(dataset->has_labels()) {
  if (length_ < 1) fail_user("sequence_length is {}, expected at least 1", length_);
  for (auto& generation : generations) {
    DocumentSet set(dataset, source, generation.shards);
    const std::int64_t sequences = (set.tokens() + length_ - 1) / length_;
    generations_.push_back({std::move(generation), std::move(set), sequences});
  }
}

const Sampler::Documents& Sampler::generation_at(std::int64_t j) const {
  std::size_t g = generations_.size() - 1;
  while (g > 0 && generations_[g].generation.sequence > j) --g;
  return generations_[g];
}

std::int64_t Sampler::epoch_number(std::int64_t j) const {
  const Documents& of = generation_at(j);
  return of.generation.epoch + (j - of.generation.sequence) / of.sequences;
}

double Sampler::epochs(std::int64_t j) const {
  const Documents& of = generation_at(j);
  return static_cast<double>(of.generation.epoch) +
         static_cast<double>(j - of.generation.sequence) / static_cast<double>(of.sequences);
}

std::int64_t Sampler::sequences_in(double epochs) const {
  std::size_t g = generations_.size() - 1;
  while (g > 0 && static_cast<double>(generations_[g].generation.epoch) > epochs) --g;
  const Documents& of = generations_[g];
  return of.generation.sequence +
         static_cast<std::int64_t>(
             std::ceil((epochs - static_cast<double>(of.generation.epoch)) * static_cast<double>(of.sequences)));
}

std::int64_t Sampler::document_at(const Epoch& epoch, std::int64_t place) {
  return epoch.documents ? (*epoch.documents)(place) : place;
}

const Sampler::Epoch& Sampler::epoch_at(std::int64_t j) {
  const Documents& of = generation_at(j);
  const std::int64_t number = epoch_number(j);
  if (epoch_ && epoch_->of == &of && (epoch_->number == number || !seed_)) return *epoch_;
  Epoch fresh{number, &of, {}, {}, {}};
  if (seed_) {
    const auto e = static_cast<std::uint64_t>(number);
    fresh.documents.emplace(of.set.documents(), *seed_, stream_of("data/documents") + stream_, e);
    fresh.sequences.emplace(of.sequences, *seed_, stream_of("data/sequences") + stream_, e);
  }
  std::int64_t offset = 0;
  for (std::int64_t place = 0; place < of.set.documents(); ++place) {
    if (place % anchor_every == 0) fresh.anchors.push_back(offset);
    offset += of.set.locate(document_at(fresh, place)).tokens;
  }
  if (offset != of.set.tokens())
    fail_user("{}: the documents of split '{}' hold {} tokens, expected {}: a shard's /doc_offsets are damaged",
              of.set.dataset().folder().string(), of.set.dataset().split(), offset, of.set.tokens());
  return epoch_.emplace(std::move(fresh));
}

std::int64_t Sampler::start_of(const Epoch& epoch, std::int64_t j) const {
  const std::int64_t place = (j - epoch.of->generation.sequence) % epoch.of->sequences;
  return (epoch.sequences ? (*epoch.sequences)(place) : place) * length_;
}

template <class Visit>
void Sampler::walk(const Epoch& epoch, std::int64_t start, std::int64_t count, Visit&& visit) const {
  // The last anchor at or before `start`; the walk passes the documents between it and `start`.
  std::int64_t place = (std::ranges::upper_bound(epoch.anchors, start) - epoch.anchors.begin() - 1) * anchor_every;
  std::int64_t skip = start - epoch.anchors[static_cast<std::size_t>(place / anchor_every)];
  for (std::int64_t at = 0; at < count; ++place) {
    const std::int64_t document = document_at(epoch, place);
    const Dataset::Place text = epoch.of->set.locate(document);
    if (skip >= text.tokens) {
      skip -= text.tokens;
      continue;
    }
    const std::int64_t taken = std::min(text.tokens - skip, count - at);
    visit(document, text, skip, at, taken);
    at += taken;
    skip = 0;
  }
}

void Sampler::find(std::int64_t j, Row& found) {
  const Epoch& now = epoch_at(j);
  const std::int64_t start = start_of(now, j), left = now.of->set.tokens() - start;
  found.used = std::min(length_, left);
  found.parts.clear();
  // Without labels a row also needs the token after it, if only to predict it.
  walk(now, start, labelled_ ? found.used : std::min(length_ + 1, left),
       [&](std::int64_t, const Dataset::Place& text, std::int64_t skip, std::int64_t at, std::int64_t count) {
         found.parts.push_back({text.shard, text.start + skip, at, count});
         text.shard->prefetch(text.start + skip, std::min<std::int64_t>(count, 2048));
       });
}

void Sampler::fill_row(const Row& found, std::int64_t row, Batch& batch) {
  const std::int64_t used = found.used, seen = found.parts.back().at + found.parts.back().count;
  const std::int64_t base = row * length_;
  std::int32_t* const tokens = batch.tokens.data() + base;
  std::int32_t* const labels = batch.labels.data() + base;
  float* const weights = batch.loss_weight.data() + base;
  std::int32_t after = 0;  // the token at length_

  // Weights are kept where the tokens they belong to are, one place early where a token is a label.
  const std::int64_t ahead = labelled_ ? 0 : 1;
  starts_.clear();
  for (const auto& [shard, from, at, count] : found.parts) {
    if (at > 0) starts_.push_back(at);
    const std::int64_t inside = std::min(count, length_ - at);
    shard->read(from, inside, tokens + at);
    if (inside < count) shard->read(from + inside, 1, &after);
    if (labelled_) shard->read_labels(from, count, labels + at);
    if (!weighted_) continue;
    const std::int64_t dropped = at < ahead ? ahead - at : 0;  // nothing predicts a row's first token
    shard->read_loss_weights(from + dropped, count - dropped, weights + at + dropped - ahead);
  }
  if (packing_ == Packing::none) starts_.clear();

  std::int64_t labelled = 0;  // rows up to here have labels
  if (labelled_) {
    if (!weighted_) std::fill_n(weights, used, 1.0f);
    for (std::int64_t i = 0; i < used; ++i)
      if (labels[i] == no_label) weights[i] = 0;
    labelled = used;
  } else {
    std::copy_n(tokens + 1, used - 1, labels);
    if (seen > used) labels[used - 1] = after;
    if (!weighted_) std::fill_n(weights, seen - 1, 1.0f);
    labelled = seen - 1;
    for (const std::int64_t at : starts_) {
      labels[at - 1] = no_label;
      weights[at - 1] = 0;
    }
  }
  std::fill_n(labels + labelled, length_ - labelled, no_label);
  std::fill_n(weights + labelled, length_ - labelled, 0.0f);
  std::fill_n(tokens + used, length_ - used, 0);
  if (weighted_ || labelled_)
    batch.weight_sum = std::accumulate(weights, weights + labelled, batch.weight_sum);
  else
    batch.weight_sum += static_cast<double>(labelled - std::ssize(starts_));

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

std::vector<Sampler::Span> Sampler::spans(std::int64_t j) {
  const Epoch& now = epoch_at(j);
  const std::int64_t start = start_of(now, j);
  std::vector<Span> found;
  walk(now, start, std::min(length_, now.of->set.tokens() - start),
       [&](std::int64_t document, const Dataset::Place&, std::int64_t skip, std::int64_t at, std::int64_t count) {
         found.push_back({now.of->set.number(document), skip, count, at});
       });
  return found;
}

std::vector<Sampler::Sighting> Sampler::sightings(std::span<const std::int64_t> documents, std::int64_t from,
                                                  std::int64_t to) {
  std::vector<Sighting> found;
  for (std::int64_t j = from; j < to;) {
    const Epoch& now = epoch_at(j);
    const auto& [generation, set, sequences] = *now.of;
    const std::int64_t begin = generation.sequence + (epoch_number(j) - generation.epoch) * sequences;
    for (const std::int64_t document : documents) {
      const std::int64_t here = set.find(document);
      const std::int64_t tokens = here < 0 ? 0 : set.locate(here).tokens;
      if (tokens == 0) continue;
      const std::int64_t place = now.documents ? now.documents->inverse(here) : here;
      std::int64_t start = now.anchors[static_cast<std::size_t>(place / anchor_every)];
      for (std::int64_t p = place / anchor_every * anchor_every; p < place; ++p)
        start += set.locate(document_at(now, p)).tokens;
      for (std::int64_t cut = start / length_; cut <= (start + tokens - 1) / length_; ++cut) {
        const std::int64_t sequence = begin + (now.sequences ? now.sequences->inverse(cut) : cut);
        if (sequence >= from && sequence < to) found.push_back({sequence, document});
      }
    }
    j = begin + sequences;
  }
  std::ranges::sort(found);
  return found;
}

}  // namespace dujiang::data
