#include "data/corpus/pipeline/piece_feed.h"

#include "data/corpus/pipeline/growth.h"

namespace dujiang::data {
namespace {

constexpr std::size_t most_documents = std::size_t{1} << 20;  // of a piece; an index has 24 bits

}  // namespace

PieceFeed::PieceFeed(const BuildConfig& config, const InputPlan& plan, const Team& team, bool alone,
                     std::function<bool(std::uint32_t, std::uint32_t)> done,
                     std::function<std::optional<std::uint32_t>(std::uint32_t)> unit_done,
                     std::function<void(std::uint32_t, const UnitRead&)> unit_read)
    : config_(config),
      plan_(plan),
      team_(team),
      alone_(alone),
      done_(std::move(done)),
      unit_done_(std::move(unit_done)),
      unit_read_(std::move(unit_read)) {}

bool PieceFeed::all_read_all() const {
  return !alone_ && plan_.units() < 4 * static_cast<std::size_t>(team_.size);
}

bool PieceFeed::owns(std::uint32_t unit, std::uint32_t piece) const {
  return all_read_all() ? team_.owns(unit + piece) : team_.owns(unit);
}

// Goes on to the next unit that has work for this process.
bool PieceFeed::begin_unit() {
  for (; unit_ < plan_.units(); ++unit_) {
    if (!all_read_all() && !team_.owns(unit_)) continue;
    bool all_done = false;
    if (const auto pieces = unit_done_(unit_)) {
      all_done = true;
      for (std::uint32_t p = 0; p < *pieces; ++p) all_done = all_done && (!owns(unit_, p) || done_(unit_, p));
    }
    if (all_done) continue;
    open_ = true;
    piece_ = 0;
    file_ = 0;
    digests_.clear();
    return true;
  }
  return false;
}

void PieceFeed::end_file(RawPiece& piece) {
  const InputFile& planned = plan_.unit(unit_)[file_];
  const auto& fault = reader_->fault();
  if (fault) piece.faults.push_back(*fault);
  if (notes(unit_)) digests_ += digest_line(reader_->digest().value_or("-"), planned.path);
  InputFile now = planned;
  if (look_at(now) && now != planned && !(fault && fault->rule == "changed"))
    piece.faults.push_back({planned.path, 0, "changed",
                            fmt::format("{}: changed since the build began ({} bytes then, {} now)",
                                        printable_path(planned.path), planned.bytes, now.bytes)});
  reader_.reset();
  ++file_;
}

void PieceFeed::fill(RawPiece& piece, bool keep) {
  const auto files = plan_.unit(unit_);
  piece = {unit_, piece_, 0, files.front().source, {}, {}, {}};
  std::uint64_t bytes = 0;
  for (std::size_t count = 0; bytes < config_.piece_bytes && count < most_documents;) {
    if (!reader_) {
      if (file_ == files.size()) {
        open_ = false;
        break;
      }
      reader_.emplace(files[file_].path, config_.sources[piece.source].read, notes(unit_));
    }
    RawDocument document;
    if (!reader_->next(document)) {
      end_file(piece);
      continue;
    }
    bytes += document.raw_bytes;
    ++count;
    if (!keep) continue;
    piece.files.push_back(static_cast<std::uint32_t>(plan_.first_file(unit_) + file_));
    piece.documents.push_back(std::move(document));
  }
  piece.stamp = plan_.stamp(unit_);
  bytes_ += bytes;
}

bool PieceFeed::next(RawPiece& piece) {
  const std::scoped_lock lock(mutex_);
  for (;;) {
    if (!open_ && !begin_unit()) return false;
    const bool wanted = owns(unit_, piece_) && !done_(unit_, piece_);
    fill(piece, wanted);
    ++piece_;
    if (!open_) {
      if (notes(unit_)) unit_read_(unit_, {piece_, piece.stamp, digests_});
      ++unit_;
    }
    if (wanted) return true;
  }
}

}  // namespace dujiang::data
