#include "framework/parallel/whole_matrices.h"

#include <algorithm>
#include <numeric>

#include "framework/base/check.h"
#include "framework/base/rehearsal.h"

namespace dujiang::parallel {
namespace {

// The lines of the whole that the part at `offset` holds, there and in the part; the rest of a part is padding.
Tensor lines_of_whole(const nn::Parameter& p, const Tensor& whole, std::int64_t offset) {
  const int axis = p.layout.axis;
  const std::int64_t begin = std::min(offset, p.global[axis]);
  return whole.narrow(axis, begin, std::min(p.global[axis] - begin, p.shape[axis]));
}
Tensor lines_of_part(const nn::Parameter& p, const Tensor& part, std::int64_t offset) {
  const int axis = p.layout.axis;
  return part.narrow(axis, 0, std::clamp<std::int64_t>(p.global[axis] - offset, 0, p.shape[axis]));
}

// Hands out a flat buffer piece by piece.
class Sweep {
 public:
  explicit Sweep(Tensor flat) : flat_(std::move(flat)) {}
  Tensor next(std::int64_t count) { return flat_.narrow(0, std::exchange(at_, at_ + count), count); }

 private:
  Tensor flat_;
  std::int64_t at_ = 0;
};

// Counts by rank.
template <class Count>
std::vector<std::int64_t> by_rank(int ranks, Count&& count) {
  std::vector<std::int64_t> counts;
  for (int r = 0; r < ranks; ++r) counts.push_back(count(r));
  return counts;
}

Tensor flat_for(const std::vector<std::int64_t>& counts, Dtype dtype, Device device) {
  return Tensor::empty({std::accumulate(counts.begin(), counts.end(), std::int64_t{0})}, dtype, device);
}

}  // namespace

WholeMatrices::WholeMatrices(const DataParallel& data_parallel, const Mesh& mesh, Dtype dtype,
                             const std::function<double(const nn::Parameter&)>& cost_of, std::string_view user)
    : data_parallel_(data_parallel),
      world_(mesh.world()),
      rank_(mesh.world().rank()),
      tp_size_(mesh.tp().size()),
      sharded_(data_parallel.zero() > 0),
      dtype_(dtype) {
  DUJIANG_CHECK(mesh.dp().size() * tp_size_ == world_.size(),
                "whole matrices over a mesh with more axes than dp and tp");
  if (!world_.supports(comm::Op::all_to_all, dtype))
    fail_user("{} needs all_to_all of {}, which transport {} doesn't have; choose another, or another comm.transport",
              user, name_of(dtype), world_.transport());
  const auto& buckets = data_parallel.buckets();
  for (std::size_t b = 0; b < buckets.size(); ++b) {
    if (rounds_.empty() || rounds_.back().end - rounds_.back().first >= static_cast<std::size_t>(world_.size()))
      rounds_.push_back({b, b, matrices_.size(), matrices_.size()});
    for (const auto& piece : buckets[b]->pieces()) {
      const double cost = cost_of(*piece.parameter);
      if (cost > 0) matrices_.push_back({piece.parameter, b, piece.offset, cost});
    }
    rounds_.back().bucket_end = b + 1;
    rounds_.back().end = matrices_.size();
  }
  for (const auto& round : rounds_) assign_owners(round);

  const auto n = std::ssize(matrices_);
  const Tensor mine = Tensor::empty({n}, Dtype::i64), all = Tensor::empty({n * tp_size_}, Dtype::i64);
  for (std::size_t i = 0; i < matrices_.size(); ++i) mine.data<std::int64_t>()[i] = matrices_[i].parameter->offset;
  if (n > 0)
    mesh.tp().all_gather(comm::buffer_of(mine), comm::buffer_of(all), default_stream(mine.device())).wait_host();
  for (std::size_t i = 0; i < matrices_.size(); ++i)
    for (int t = 0; t < tp_size_; ++t)
      matrices_[i].offsets.push_back(all.data<std::int64_t>()[static_cast<std::size_t>(t) * matrices_.size() + i]);
}

// The most costly first, each to the rank that has least.
void WholeMatrices::assign_owners(const Round& round) {
  std::vector<std::size_t> order(round.end - round.first);
  std::iota(order.begin(), order.end(), round.first);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return matrices_[a].cost > matrices_[b].cost; });
  std::vector<double> load(static_cast<std::size_t>(world_.size()), 0.0);
  for (const std::size_t i : order) {
    const auto least = std::min_element(load.begin(), load.end());
    *least += matrices_[i].cost;
    matrices_[i].owner = static_cast<int>(least - load.begin());
  }
}

WholeMatrices::Cut WholeMatrices::kept(const Matrix& matrix, int rank) const {
  const std::int64_t count = matrix.parameter->shape.count();
  if (!sharded_) return {&matrix, 0, count};
  const auto range = data_parallel_.buckets()[matrix.bucket]->share_of(place_of(rank).dp);
  const std::int64_t from = std::clamp<std::int64_t>(range.begin - matrix.offset, 0, count);
  const std::int64_t to = std::clamp<std::int64_t>(range.begin + range.count - matrix.offset, 0, count);
  return {&matrix, from, to - from};
}

WholeMatrices::Cut WholeMatrices::sent(const Matrix& matrix, int rank) const {
  const auto here = place_of(rank), owner = place_of(matrix.owner);
  const bool owner_has_it = (!sharded_ && here.dp != owner.dp) || (!is_cut(matrix) && here.tp != owner.tp);
  return owner_has_it ? Cut{&matrix, 0, 0} : kept(matrix, rank);
}

std::int64_t WholeMatrices::collected(const Round& round, int from, int to) const {
  std::int64_t count = 0;
  for (std::size_t i = round.first; i < round.end; ++i)
    if (matrices_[i].owner == to) count += sent(matrices_[i], from).count;
  return count;
}

std::int64_t WholeMatrices::returned(const Round& round, int from, int to) const {
  std::int64_t count = 0;
  for (std::size_t i = round.first; i < round.end; ++i)
    if (matrices_[i].owner == from) count += kept(matrices_[i], to).count;
  return count;
}

std::vector<Tensor> WholeMatrices::gather(const Round& round, const Read& read) const {
  const int ranks = world_.size();
  const Device device = world_.device();
  const auto send_counts = by_rank(ranks, [&](int r) { return collected(round, rank_, r); });
  const auto receive_counts = by_rank(ranks, [&](int r) { return collected(round, r, rank_); });
  const Tensor sending = flat_for(send_counts, dtype_, device), received = flat_for(receive_counts, dtype_, device);
  Sweep to(sending);
  for (int r = 0; r < ranks; ++r)
    for (std::size_t i = round.first; i < round.end; ++i) {
      const auto cut = sent(matrices_[i], rank_);
      if (matrices_[i].owner == r && cut.count > 0) read(cut, to.next(cut.count));
    }
  auto& stream = default_stream(device);
  world_.all_to_all(comm::buffer_of(sending), comm::buffer_of(received), {send_counts, receive_counts}, stream)
      .wait(stream);

  // Ranges along dp make up a part, parts along tp the whole.
  std::vector<Tensor> wholes(round.end - round.first);
  std::vector<Sweep> from;
  Sweep all(received);
  for (const auto count : receive_counts) from.emplace_back(all.next(count));
  for (std::size_t i = 0; i < wholes.size(); ++i) {
    const auto& matrix = matrices_[round.first + i];
    const auto& p = *matrix.parameter;
    if (matrix.owner != rank_) continue;
    wholes[i] = Tensor::empty(p.global, dtype_, device);
    for (int t = 0; t < tp_size_; ++t) {
      const Tensor part = is_cut(matrix) ? Tensor::empty(p.shape, dtype_, device) : wholes[i];
      for (int r = t; r < ranks; r += tp_size_) {
        const auto cut = sent(matrix, r);
        if (cut.count == 0) continue;
        part.view({part.count()})
            .narrow(0, cut.first, cut.count)
            .copy_from(from[static_cast<std::size_t>(r)].next(cut.count));
      }
      if (!is_cut(matrix)) continue;
      const auto offset = matrix.offsets[static_cast<std::size_t>(t)];
      lines_of_whole(p, wholes[i], offset).copy_from(lines_of_part(p, part, offset));
    }
  }
  return wholes;
}

void WholeMatrices::spread(const Round& round, std::vector<Tensor> wholes, const Write& write) const {
  const int ranks = world_.size();
  const Device device = world_.device();
  const auto send_counts = by_rank(ranks, [&](int r) { return returned(round, rank_, r); });
  const auto receive_counts = by_rank(ranks, [&](int r) { return returned(round, r, rank_); });
  const Tensor sending = flat_for(send_counts, dtype_, device), received = flat_for(receive_counts, dtype_, device);
  std::vector<Sweep> to;
  Sweep all(sending);
  for (const auto count : send_counts) to.emplace_back(all.next(count));
  for (std::size_t i = 0; i < wholes.size(); ++i) {
    const auto& matrix = matrices_[round.first + i];
    const auto& p = *matrix.parameter;
    if (matrix.owner != rank_) continue;
    for (int t = 0; t < tp_size_; ++t) {
      Tensor part = wholes[i];
      if (is_cut(matrix)) {
        const auto offset = matrix.offsets[static_cast<std::size_t>(t)];
        part = Tensor::zeros(p.shape, dtype_, device);
        lines_of_part(p, part, offset).copy_from(lines_of_whole(p, wholes[i], offset));
      }
      for (int r = t; r < ranks; r += tp_size_) {
        const auto cut = kept(matrix, r);
        if (cut.count == 0) continue;
        to[static_cast<std::size_t>(r)].next(cut.count).copy_from(
            part.view({part.count()}).narrow(0, cut.first, cut.count));
      }
    }
    wholes[i] = {};
  }
  auto& stream = default_stream(device);
  world_.all_to_all(comm::buffer_of(sending), comm::buffer_of(received), {send_counts, receive_counts}, stream)
      .wait(stream);
  Sweep from(received);
  for (int r = 0; r < ranks; ++r)
    for (std::size_t i = round.first; i < round.end; ++i) {
      const auto cut = kept(matrices_[i], rank_);
      if (matrices_[i].owner == r && cut.count > 0) write(cut, from.next(cut.count));
    }
}

void WholeMatrices::run(const Round& round, const Read& read, const Work& work, const Write& write) const {
  if (round.first == round.end) return;
  const MemoryScope use(MemoryUse::workspace);
  auto wholes = gather(round, read);
  for (std::size_t i = 0; i < wholes.size(); ++i)
    if (wholes[i].defined()) work(matrices_[round.first + i], wholes[i]);
  spread(round, std::move(wholes), write);
}

}  // namespace dujiang::parallel
