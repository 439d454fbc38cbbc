#include "comm/mpi/mpi_network.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "comm/host/tree_reduce.h"
#include "comm/mpi/mpi_communicator.h"
#include "framework/base/check.h"

namespace dujiang::comm {
namespace {

// Messages of different steps may overtake one another.
enum Tag { scatter_tag = 1, gather_tag, batch_tag, announcement_tag, count_tag, exchange_tag, barrier_tag };
constexpr int everyone = -1;

char* at(const void* data, std::int64_t element, Dtype dtype) {
  return const_cast<char*>(static_cast<const char*>(data)) + element * static_cast<std::int64_t>(size_of(dtype));
}

std::size_t bytes(std::int64_t count, Dtype dtype) {
  return static_cast<std::size_t>(count) * size_of(dtype);
}

}  // namespace

std::int64_t mpi_chunk_bytes(int ranks) {
  constexpr std::int64_t scratch = 8 << 20;  // two rounds from every rank, for up to 128 ranks
  return std::clamp<std::int64_t>(scratch / (2 * ranks), 32 << 10, 512 << 10);
}

HostLayout HostLayout::of(const std::vector<int>& host_of, int rank) {
  HostLayout layout;
  std::vector<int> begins;  // where a new host begins, if ranks of a host are consecutive
  const auto size = static_cast<int>(host_of.size());
  const auto host = [&](int r) { return host_of[static_cast<std::size_t>(r)]; };
  for (int r = 0; r < size; ++r) {
    if (host(r) == host(rank)) layout.host_ranks.push_back(r);
    if (r == 0 || host(r) != host(r - 1)) begins.push_back(r);
  }
  std::vector<int> distinct = host_of;
  std::sort(distinct.begin(), distinct.end());
  layout.hosts = static_cast<int>(std::unique(distinct.begin(), distinct.end()) - distinct.begin());
  const int block = size / layout.hosts;
  bool aligned = static_cast<int>(begins.size()) == layout.hosts && std::has_single_bit(static_cast<unsigned>(block));
  for (std::size_t i = 0; i < begins.size(); ++i) aligned = aligned && begins[i] == static_cast<int>(i) * block;
  layout.block = aligned && size == block * layout.hosts ? block : 1;
  return layout;
}

MpiNetwork::MpiNetwork(MpiSession& session, void* mpi_comm, int rank, int size, HostLayout layout, HostGroup* host)
    : session_(session),
      comm_(mpi_comm),
      rank_(rank),
      size_(size),
      layout_(std::move(layout)),
      host_(host),
      by_hosts_(host != nullptr && layout_.block > 1 && layout_.hosts > 1),
      chunk_bytes_(mpi_chunk_bytes(size)) {}

void MpiNetwork::run(const Request& q) {
  switch (q.op) {
    case Op::all_reduce:
    case Op::reduce:
    case Op::reduce_scatter:
      return reduction(q);
    case Op::all_gather:
      return all_gather(q);
    case Op::broadcast:
      return broadcast(q);
    case Op::all_to_all:
      return all_to_all(q);
    case Op::batch_send_recv:
      return batch(q);
    case Op::barrier:
      return barrier();
  }
}

// Calls body(peer) for every other rank, beginning with the next one, so that not all turn to rank 0 at once.
template <class Body>
void MpiNetwork::for_peers(Body body) const {
  for (int i = 1; i < size_; ++i) body((rank_ + i) % size_);
}

Slices MpiNetwork::slices_of(const Request& q) const {
  const std::int64_t chunk = chunk_bytes_ / static_cast<std::int64_t>(size_of(q.send.dtype));
  if (q.op == Op::reduce_scatter) return Slices::equal(q.receive.count, size_, chunk);
  if (q.op == Op::all_gather) return Slices::equal(q.send.count, size_, chunk);
  return Slices::of(q.send.count, size_, chunk);
}

void MpiNetwork::reduction(const Request& q) {
  const Slices slices = slices_of(q);
  result_.resize(static_cast<std::size_t>(2 * chunk_bytes_));
  by_hosts_ ? reduce_by_hosts(q, slices) : reduce_flat(q, slices);
}

// Where this rank's reduced piece goes.
void* MpiNetwork::output(const Request& q, const Slices& slices, std::int64_t round) {
  if (q.op == Op::reduce_scatter) return at(q.receive.data, round * slices.chunk, q.receive.dtype);
  if (q.op == Op::reduce && rank_ != q.root) return result_.data() + round % 2 * chunk_bytes_;
  return at(q.receive.data, slices.offset(rank_, round), q.send.dtype);
}

// Every rank's part of this rank's slice comes here, everyone else's slices of `send` leave.
void MpiNetwork::post_parts(Messages& out, ConstBuffer send, const Slices& slices, std::int64_t round, char* scratch) {
  const std::int64_t mine = slices.length(rank_, round);
  for_peers([&](int peer) { out.receive(scratch + peer * chunk_bytes_, bytes(mine, send.dtype), peer, scatter_tag); });
  for_peers([&](int peer) {
    out.send(at(send.data, slices.offset(peer, round), send.dtype), bytes(slices.length(peer, round), send.dtype), peer,
             scatter_tag);
  });
  out.start();
}

// `own`, this rank's piece of the round, goes to `to` (a root or everyone); theirs come to their place in `whole`.
void MpiNetwork::post_gather(Messages& out, const void* own, void* whole, Dtype dtype, const Slices& slices,
                             std::int64_t round, int to) {
  for_peers([&](int peer) {
    if (to != everyone && to != rank_) return;
    out.receive(at(whole, slices.offset(peer, round), dtype), bytes(slices.length(peer, round), dtype), peer,
                gather_tag);
  });
  for_peers([&](int peer) {
    if (to != everyone && to != peer) return;
    out.send(own, bytes(slices.length(rank_, round), dtype), peer, gather_tag);
  });
  out.start();
}

// Scatter the parts, reduce the own slice, hand it on. While one round is reduced the parts of the next travel.
void MpiNetwork::reduce_flat(const Request& q, const Slices& slices) {
  const Dtype dtype = q.send.dtype;
  const std::int64_t half = chunk_bytes_ * size_;
  scratch_.resize(static_cast<std::size_t>(2 * half));
  Messages parts[2] = {messages(), messages()}, gathers[2] = {messages(), messages()};
  std::vector<const void*> sources(static_cast<std::size_t>(size_));
  post_parts(parts[0], q.send, slices, 0, scratch_.data());
  for (std::int64_t round = 0; round < slices.rounds(); ++round) {
    const auto now = static_cast<std::size_t>(round % 2), next = 1 - now;
    char* here = scratch_.data() + static_cast<std::int64_t>(now) * half;
    if (round + 1 < slices.rounds()) {
      post_parts(parts[next], q.send, slices, round + 1, scratch_.data() + static_cast<std::int64_t>(next) * half);
    }
    parts[now].finish();
    gathers[now].finish();  // its output may be reused
    void* out = output(q, slices, round);
    if (const std::int64_t count = slices.length(rank_, round); count > 0) {
      for (int r = 0; r < size_; ++r) {
        sources[static_cast<std::size_t>(r)] =
            r == rank_ ? at(q.send.data, slices.offset(r, round), dtype) : here + r * chunk_bytes_;
      }
      reduce_tree({dtype, dtype, q.reduce, size_}, sources, {&out, 1}, count);
    }
    if (q.op == Op::reduce_scatter) continue;
    post_gather(gathers[now], out, q.receive.data, dtype, slices, round, q.op == Op::reduce ? q.root : everyone);
  }
  gathers[0].finish();
  gathers[1].finish();
}

// Rank l of a host reduces, over its host, the slices of rank l of every host; partial results cross the network to
// the slice's owner, which finishes the tree.
void MpiNetwork::reduce_by_hosts(const Request& q, const Slices& slices) {
  const Dtype dtype = q.send.dtype, partial = partial_dtype(dtype);
  const int host = rank_ / layout_.block, place = rank_ % layout_.block;
  const auto rank_at = [&](int h, int l) { return h * layout_.block + l; };
  const auto piece = slices.chunk * static_cast<std::int64_t>(size_of(partial));
  scratch_.resize(static_cast<std::size_t>(2 * layout_.hosts * piece));
  char* const received = scratch_.data() + layout_.hosts * piece;
  std::vector<std::vector<HostGroup::Range>> ranges(static_cast<std::size_t>(layout_.block));
  std::vector<const void*> sources(static_cast<std::size_t>(layout_.hosts));
  auto gather = messages();
  for (std::int64_t round = 0; round < slices.rounds(); ++round) {
    for (int l = 0; l < layout_.block; ++l) {
      auto& each = ranges[static_cast<std::size_t>(l)];
      each.clear();
      for (int h = 0; h < layout_.hosts; ++h) {
        each.push_back({slices.offset(rank_at(h, l), round), slices.length(rank_at(h, l), round)});
      }
    }
    host_->reduce_partial(q.send, q.reduce == Reduce::avg ? Reduce::sum : q.reduce, ranges, scratch_.data());
    auto parts = messages();
    const std::int64_t mine = slices.length(rank_, round);
    std::int64_t begin = 0;
    for (int h = 0; h < layout_.hosts; ++h) {
      const std::int64_t theirs = slices.length(rank_at(h, place), round);
      char* own = at(scratch_.data(), begin, partial);
      begin += theirs;
      sources[static_cast<std::size_t>(h)] = h == host ? own : received + h * piece;
      if (h == host) continue;
      parts.send(own, bytes(theirs, partial), rank_at(h, place), scatter_tag);
      parts.receive(received + h * piece, bytes(mine, partial), rank_at(h, place), scatter_tag);
    }
    parts.start();
    parts.finish();
    gather.finish();  // its output may be reused
    void* out = output(q, slices, round);
    if (mine > 0) reduce_tree({partial, dtype, q.reduce, size_}, sources, {&out, 1}, mine);
    if (q.op == Op::reduce) {
      post_gather(gather, out, q.receive.data, dtype, slices, round, q.root);
    } else if (q.op == Op::all_reduce) {  // to the same place on every host, and from there within the host
      for (int h = 0; h < layout_.hosts; ++h) {
        const int peer = rank_at(h, place);
        if (h == host) continue;
        gather.receive(at(q.receive.data, slices.offset(peer, round), dtype), bytes(slices.length(peer, round), dtype),
                       peer, gather_tag);
        gather.send(out, bytes(mine, dtype), peer, gather_tag);
      }
      gather.start();
      gather.finish();
      host_->spread(q.receive, ranges);
    }
  }
  gather.finish();
}

void MpiNetwork::all_gather(const Request& q) {
  const Dtype dtype = q.send.dtype;
  const Slices slices = slices_of(q);
  Messages gathers[2] = {messages(), messages()};
  for (std::int64_t round = 0; round < slices.rounds(); ++round) {
    auto& gather = gathers[round % 2];
    gather.finish();
    post_gather(gather, at(q.send.data, round * slices.chunk, dtype), q.receive.data, dtype, slices, round, everyone);
  }
  void* own = at(q.receive.data, rank_ * q.send.count, dtype);
  if (own != q.send.data) std::memcpy(own, q.send.data, bytes(q.send.count, dtype));
  gathers[0].finish();
  gathers[1].finish();
}

// The root hands every rank one slice (its own to all), then those hand theirs to one another.
void MpiNetwork::broadcast(const Request& q) {
  const Dtype dtype = q.send.dtype;
  const Slices slices = slices_of(q);
  const auto piece = [&](int r, std::int64_t round) { return at(q.receive.data, slices.offset(r, round), dtype); };
  const auto length = [&](int r, std::int64_t round) { return bytes(slices.length(r, round), dtype); };
  Messages parts[2] = {messages(), messages()}, gathers[2] = {messages(), messages()};
  const auto post = [&](std::int64_t round) {
    auto& part = parts[round % 2];
    part.finish();
    if (rank_ != q.root) {
      part.receive(piece(rank_, round), length(rank_, round), q.root, scatter_tag);
    } else {
      for_peers([&](int peer) {
        part.send(piece(peer, round), length(peer, round), peer, scatter_tag);
        part.send(piece(q.root, round), length(q.root, round), peer, gather_tag);
      });
    }
    part.start();
  };
  post(0);
  for (std::int64_t round = 0; round < slices.rounds(); ++round) {
    auto& gather = gathers[round % 2];
    if (round + 1 < slices.rounds()) post(round + 1);
    parts[round % 2].finish();
    gather.finish();
    if (rank_ == q.root) continue;
    for_peers([&](int peer) {
      gather.receive(piece(peer, round), length(peer, round), peer, gather_tag);
      if (peer != q.root) gather.send(piece(rank_, round), length(rank_, round), peer, gather_tag);
    });
    gather.start();
  }
  for (int i = 0; i < 2; ++i) {
    parts[i].finish();
    gathers[i].finish();
  }
}

void MpiNetwork::all_to_all(const Request& q) {
  const Dtype dtype = q.send.dtype;
  std::vector<std::int64_t> announced(static_cast<std::size_t>(size_));
  auto counts = messages();
  for_peers([&](int peer) {
    const auto p = static_cast<std::size_t>(peer);
    counts.send(&q.send_counts[p], sizeof(std::int64_t), peer, count_tag);
    counts.receive(&announced[p], sizeof(std::int64_t), peer, count_tag);
  });
  counts.start();
  counts.finish();
  for_peers([&](int peer) {
    const auto p = static_cast<std::size_t>(peer);
    DUJIANG_CHECK(announced[p] == q.receive_counts[p],
                  "ranks disagree: rank {} sends {} elements to rank {}, which expects {}", peer, announced[p], rank_,
                  q.receive_counts[p]);
  });
  auto data = messages();
  std::int64_t from = 0, to = 0;
  for (int r = 0; r < size_; ++r) {
    const auto i = static_cast<std::size_t>(r);
    char *sent = at(q.send.data, from, dtype), *received = at(q.receive.data, to, dtype);
    from += q.send_counts[i];
    to += q.receive_counts[i];
    if (r == rank_) {
      if (q.send_counts[i] > 0) std::memcpy(received, sent, bytes(q.send_counts[i], dtype));
      continue;
    }
    data.send(sent, bytes(q.send_counts[i], dtype), r, exchange_tag);
    data.receive(received, bytes(q.receive_counts[i], dtype), r, exchange_tag);
  }
  data.start();
  data.finish();
}

void MpiNetwork::batch(const Request& q) {
  struct Announcement {
    std::int64_t count;
    std::int64_t dtype;
  };
  const auto said = [](const P2p& m) {
    return Announcement{m.buffer.count, static_cast<std::int64_t>(m.buffer.dtype)};
  };
  std::vector<Announcement> here, there(q.messages.size());
  for (const P2p& m : q.messages) here.push_back(said(m));
  auto announcements = messages();
  for (std::size_t i = 0; i < q.messages.size(); ++i) {
    const P2p& m = q.messages[i];
    if (m.kind == P2p::Kind::send) announcements.send(&here[i], sizeof here[i], m.peer, announcement_tag);
    if (m.kind == P2p::Kind::receive) announcements.receive(&there[i], sizeof there[i], m.peer, announcement_tag);
  }
  announcements.start();
  announcements.finish();
  auto data = messages();
  for (std::size_t i = 0; i < q.messages.size(); ++i) {
    const P2p& m = q.messages[i];
    const std::size_t length = bytes(m.buffer.count, m.buffer.dtype);
    if (m.kind == P2p::Kind::send) {
      data.send(m.buffer.data, length, m.peer, batch_tag);
      continue;
    }
    DUJIANG_CHECK(there[i].count == here[i].count && there[i].dtype == here[i].dtype,
                  "ranks disagree: rank {} sends {} x {}, rank {} expects {} x {}", m.peer, there[i].count,
                  name_of(static_cast<Dtype>(there[i].dtype)), rank_, m.buffer.count, name_of(m.buffer.dtype));
    data.receive(m.buffer.data, length, m.peer, batch_tag);
  }
  data.start();
  data.finish();
}

// After step k a rank has heard, directly or not, from the 2^(k + 1) - 1 ranks before it.
void MpiNetwork::barrier() {
  char out = 0, in = 0;
  for (int distance = 1; distance < size_; distance *= 2) {
    auto step = messages();
    step.send(&out, 1, (rank_ + distance) % size_, barrier_tag);
    step.receive(&in, 1, (rank_ - distance + size_) % size_, barrier_tag);
    step.start();
    step.finish();
  }
}

}  // namespace dujiang::comm
