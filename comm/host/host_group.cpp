#include "comm/host/host_group.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <algorithm>
#include <cstring>
#include <numeric>

#include "comm/host/slices.h"
#include "comm/host/tree_reduce.h"
#include "comm/watch/publication.h"
#include "framework/base/check.h"

namespace dujiang::comm {
namespace {

constexpr std::uint64_t nothing_to_reach = ~std::uint64_t{0};

void copy_bytes(void* to, const void* from, std::size_t bytes) {
  if (to != from && bytes > 0) std::memcpy(to, from, bytes);
}

// A copy whose destination isn't read into the cache first and doesn't displace what is there.
void stream_bytes(std::byte* to, const std::byte* from, std::size_t bytes) {
#if defined(__SSE2__)
  const std::size_t head = std::min(bytes, (16 - reinterpret_cast<std::uintptr_t>(to) % 16) % 16);
  copy_bytes(to, from, head);
  std::size_t i = head;
  for (; i + 64 <= bytes; i += 64) {
    const auto* source = reinterpret_cast<const __m128i*>(from + i);
    auto* destination = reinterpret_cast<__m128i*>(to + i);
    for (int k = 0; k < 4; ++k) _mm_stream_si128(destination + k, _mm_loadu_si128(source + k));
  }
  copy_bytes(to + i, from + i, bytes - i);
  _mm_sfence();
#else
  copy_bytes(to, from, bytes);
#endif
}

// Copies a piece of an operation's result of `whole` bytes.
void deliver_bytes(std::byte* to, const std::byte* from, std::size_t bytes, std::size_t whole) {
  constexpr std::size_t leaves_the_cache = 8 << 20;
  if (to == from) return;
  whole >= leaves_the_cache ? stream_bytes(to, from, bytes) : copy_bytes(to, from, bytes);
}

std::size_t bytes_of(const ConstBuffer& buffer) {
  return static_cast<std::size_t>(buffer.count) * size_of(buffer.dtype);
}

const std::byte* at(const void* data, std::int64_t element, Dtype dtype) {
  return static_cast<const std::byte*>(data) + element * static_cast<std::int64_t>(size_of(dtype));
}
std::byte* at(void* data, std::int64_t element, Dtype dtype) {
  return static_cast<std::byte*>(data) + element * static_cast<std::int64_t>(size_of(dtype));
}

// Where the piece for rank `to` begins, in elements.
std::int64_t displacement(const std::int64_t* counts, int to) {
  return std::accumulate(counts, counts + to, std::int64_t{0});
}

}  // namespace

std::size_t HostGroup::block_bytes(int size) {
  return HostBlocks::block_bytes(size);
}
std::size_t HostGroup::small_bytes(int size) {
  return HostBlocks::small_bytes(size);
}
std::size_t HostGroup::chunk_bytes(int size) {
  return HostBlocks::chunk_bytes(size);
}

HostGroup::HostGroup(std::vector<std::byte*> blocks, int rank, std::shared_ptr<const PeerMemory> memory,
                     std::function<bool()> interrupted)
    : blocks_(std::move(blocks), rank, std::move(interrupted)), rank_(rank), memory_(std::move(memory)) {}

bool HostGroup::ready(const Request& request, std::chrono::nanoseconds patience) const {
  return blocks_.came(awaited(request), patience);
}

// Whose posts this rank needs. A small broadcast needs the root's alone, a small reduction is the root's alone: the
// others have done their part with their post.
std::vector<int> HostGroup::awaited(const Request& q) const {
  const bool small = blocks_.announced(rank_).small != 0;
  if (small && q.op == Op::broadcast) return rank_ == q.root ? std::vector<int>{} : std::vector<int>{q.root};
  if (small && q.op == Op::reduce && rank_ != q.root) return {};
  std::vector<int> others;
  for (int i = 1; i < size(); ++i) others.push_back((rank_ + i) % size());
  return others;
}

void HostGroup::abandon(const std::string& why) {
  blocks_.abandon(why);
}

void HostGroup::post(const Request& q) {
  blocks_.next_operation();
  auto& a = blocks_.announcement();
  const std::size_t send = bytes_of(q.send), receive = bytes_of(q.receive);
  a.signature = q.signature();
  a.small = std::max(send, receive) <= small_bytes(size());
  if (a.small == 0 && memory_) {
    a.send = send == 0 ? nothing_to_reach : memory_->offer(q.send.data, send);
    a.receive = receive == 0 ? nothing_to_reach : memory_->offer(q.receive.data, receive);
  } else {
    a.send = a.receive = 0;
    if (a.small != 0 && (q.op != Op::broadcast || q.root == rank_)) copy_bytes(blocks_.small(rank_), q.send.data, send);
    if (send == 0) a.send = nothing_to_reach;
    if (receive == 0) a.receive = nothing_to_reach;
  }
  a.longest = 0;
  if (q.op == Op::all_to_all) {
    std::copy(q.send_counts.begin(), q.send_counts.end(), blocks_.counts(rank_));
    a.longest = *std::max_element(q.send_counts.begin(), q.send_counts.end());
  }
  a.source_line = q.where.line();
  const char* file = q.where.file_name();
  const std::size_t length = std::strlen(file), kept = std::min(length, sizeof a.source_file - 1);
  std::memcpy(a.source_file, file + length - kept, kept + 1);
  blocks_.tick();
}

HostGroup::Mode HostGroup::agree(const Request& q, std::span<const int> ranks) const {
  const HostBlocks::Announcement& mine = blocks_.announced(rank_);
  bool all_small = mine.small != 0, all_reached = mine.send != 0 && mine.receive != 0;
  const auto said = [&](int rank) {
    const auto& a = blocks_.announced(rank);
    return fmt::format("{} (called from {})", a.signature.str(), place_of(a.source_file, a.source_line));
  };
  // All ranks tell it alike where all of them see it: the lowest that differs from the lowest.
  std::vector<int> seen(ranks.begin(), ranks.end());
  seen.push_back(rank_);
  std::sort(seen.begin(), seen.end());
  for (const int r : seen) {
    const HostBlocks::Announcement& theirs = blocks_.announced(r);
    if (theirs.signature != blocks_.announced(seen[0]).signature) {
      throw Disagreement(
          fmt::format("ranks disagree: rank {} asks for {}, rank {} for {}", seen[0], said(seen[0]), r, said(r)));
    }
    all_small = all_small && theirs.small != 0;
    all_reached = all_reached && theirs.send != 0 && theirs.receive != 0;
  }
  if (q.op == Op::all_to_all) {
    for (int r = 0; r < size(); ++r) {
      const std::int64_t sent = blocks_.counts(r)[rank_], expected = q.receive_counts[static_cast<std::size_t>(r)];
      DUJIANG_CHECK(sent == expected, "ranks disagree: rank {} sends {} elements to rank {}, which expects {}", r, sent,
                    rank_, expected);
    }
  }
  return all_small ? Mode::small : all_reached ? Mode::direct : Mode::staged;
}

void HostGroup::finish(const Request& q) {
  const auto ranks = awaited(q);
  for (const int r : ranks) blocks_.await(r);
  switch (agree(q, ranks)) {
    case Mode::small:
      return run_small(q);
    case Mode::direct:
      run_direct(q);
      blocks_.tick();  // nobody may touch a buffer that others still use
      return blocks_.await_everyone();
    case Mode::staged:
      return run_staged(q);
  }
}

void HostGroup::run(const Request& q) {
  post(q);
  finish(q);
}

void HostGroup::exchange(const void* mine, std::size_t bytes, void* all) {
  const auto count = static_cast<std::int64_t>(bytes);
  run({.op = Op::all_gather, .send = {mine, count, Dtype::u8}, .receive = {all, count * size(), Dtype::u8, {}}});
}

void HostGroup::run_small(const Request& q) {
  const Dtype dtype = q.send.dtype;
  const auto gather = [&](std::int64_t begin, std::int64_t count) {
    std::vector<const void*> sources;
    for (int r = 0; r < size(); ++r) sources.push_back(at(blocks_.small(r), begin, dtype));
    void* receive = q.receive.data;
    reduce_tree({dtype, dtype, q.reduce, size()}, sources, {&receive, 1}, count);
  };
  switch (q.op) {
    case Op::all_reduce:
      return gather(0, q.send.count);
    case Op::reduce:
      return rank_ == q.root ? gather(0, q.send.count) : void();
    case Op::reduce_scatter:
      return gather(rank_ * q.receive.count, q.receive.count);
    case Op::all_gather:
      for (int r = 0; r < size(); ++r)
        copy_bytes(at(q.receive.data, r * q.send.count, dtype), blocks_.small(r), bytes_of(q.send));
      return;
    case Op::broadcast:
      return rank_ == q.root ? void() : copy_bytes(q.receive.data, blocks_.small(q.root), bytes_of(q.receive));
    case Op::all_to_all:
      for (int r = 0; r < size(); ++r) {
        copy_bytes(at(q.receive.data, displacement(q.receive_counts.data(), r), dtype),
                   at(blocks_.small(r), displacement(blocks_.counts(r), rank_), dtype),
                   static_cast<std::size_t>(blocks_.counts(r)[rank_]) * size_of(dtype));
      }
      return;
    default:
      return;
  }
}

void HostGroup::run_direct(const Request& q) {
  const Dtype dtype = q.send.dtype;
  const auto send = [&](int r) {
    return r == rank_ ? static_cast<const std::byte*>(q.send.data) : memory_->reach(r, blocks_.announced(r).send);
  };
  const auto receive = [&](int r) {
    return r == rank_ ? static_cast<std::byte*>(q.receive.data) : memory_->reach(r, blocks_.announced(r).receive);
  };
  const auto reduce_range = [&](std::int64_t begin, std::int64_t count, std::span<void* const> to) {
    std::vector<const void*> sources;
    for (int r = 0; r < size(); ++r) sources.push_back(at(send(r), begin, dtype));
    reduce_tree({dtype, dtype, q.reduce, size()}, sources, to, count);
  };
  // Whole lines of the cache, as neighbours write beside one another.
  const std::int64_t slice = ((q.send.count + size() - 1) / size() + 63) / 64 * 64;
  const std::int64_t begin = std::min(rank_ * slice, q.send.count);
  const std::int64_t count = std::min(slice, q.send.count - begin);
  switch (q.op) {
    case Op::all_reduce: {
      std::vector<void*> to;
      for (int i = 0; i < size(); ++i) to.push_back(at(receive((rank_ + i) % size()), begin, dtype));
      return reduce_range(begin, count, to);
    }
    case Op::reduce: {
      void* to = at(receive(q.root), begin, dtype);
      return reduce_range(begin, count, {&to, 1});
    }
    case Op::reduce_scatter: {
      void* to = q.receive.data;
      return reduce_range(rank_ * q.receive.count, q.receive.count, {&to, 1});
    }
    case Op::all_gather:
      for (int i = 0; i < size(); ++i) {
        const int r = (rank_ + i) % size();
        deliver_bytes(at(q.receive.data, r * q.send.count, dtype), send(r), bytes_of(q.send), bytes_of(q.receive));
      }
      return;
    case Op::broadcast:
      return rank_ == q.root ? void()
                             : deliver_bytes(static_cast<std::byte*>(q.receive.data), send(q.root), bytes_of(q.receive),
                                             bytes_of(q.receive));
    case Op::all_to_all:
      for (int i = 0; i < size(); ++i) {
        const int r = (rank_ + i) % size();
        const auto bytes = static_cast<std::size_t>(blocks_.counts(r)[rank_]) * size_of(dtype);
        if (bytes == 0) continue;
        deliver_bytes(at(q.receive.data, displacement(q.receive_counts.data(), r), dtype),
                      at(send(r), displacement(blocks_.counts(r), rank_), dtype), bytes, bytes_of(q.receive));
      }
      return;
    default:
      return;
  }
}

void HostGroup::run_staged(const Request& q) {
  if (reduces(q.op)) return reduce_staged(q);
  if (q.op == Op::all_to_all) return all_to_all_staged(q);
  move_staged(q);
}

// Every round: everyone's parts of the others' slices go to staging; each reduces its slice; the result goes back
// through staging in the next round, so that one synchronisation serves both.
void HostGroup::reduce_staged(const Request& q) {
  const Dtype dtype = q.send.dtype;
  const auto chunk = static_cast<std::int64_t>(chunk_bytes(size()) / size_of(dtype));
  const bool scatter = q.op == Op::reduce_scatter;
  const bool keeps = q.op != Op::reduce || rank_ == q.root;
  const Slices slices =
      scatter ? Slices::equal(q.receive.count, size(), chunk) : Slices::of(q.send.count, size(), chunk);
  const auto bytes = [&](int r, std::int64_t k) {
    return static_cast<std::size_t>(slices.length(r, k)) * size_of(dtype);
  };
  const std::uint32_t first = rounds_;
  const auto round = [&](std::int64_t k) { return first + static_cast<std::uint32_t>(k); };
  std::vector<const void*> sources(static_cast<std::size_t>(size()));
  for (std::int64_t k = 0; k < slices.rounds() + (scatter ? 0 : 1); ++k, ++rounds_) {
    const bool more = k < slices.rounds();
    for (int r = 0; more && r < size(); ++r) {
      if (r != rank_)
        copy_bytes(blocks_.stage(rank_, round(k), r), at(q.send.data, slices.offset(r, k), dtype), bytes(r, k));
    }
    blocks_.tick();
    blocks_.await_everyone();
    if (more && slices.length(rank_, k) > 0) {
      for (int r = 0; r < size(); ++r) {
        sources[static_cast<std::size_t>(r)] =
            r == rank_ ? at(q.send.data, slices.offset(r, k), dtype) : blocks_.stage(r, round(k), rank_);
      }
      std::vector<void*> to;
      if (scatter) {
        to = {at(q.receive.data, k * chunk, dtype)};
      } else {
        if (keeps) to.push_back(at(q.receive.data, slices.offset(rank_, k), dtype));
        to.push_back(blocks_.stage(rank_, round(k), size()));
      }
      reduce_tree({dtype, dtype, q.reduce, size()}, sources, to, slices.length(rank_, k));
    }
    for (int i = 1; !scatter && k > 0 && keeps && i < size(); ++i) {
      const int r = (rank_ + i) % size();
      deliver_bytes(at(q.receive.data, slices.offset(r, k - 1), dtype), blocks_.stage(r, round(k - 1), size()),
                    bytes(r, k - 1), bytes_of(q.receive));
    }
  }
}

// all_gather and broadcast: a sender's whole staging area is one piece.
void HostGroup::move_staged(const Request& q) {
  const std::size_t piece = static_cast<std::size_t>(size() + 1) * chunk_bytes(size()), total = bytes_of(q.send);
  const auto* from = static_cast<const std::byte*>(q.send.data);
  auto* to = static_cast<std::byte*>(q.receive.data);
  const bool gather = q.op == Op::all_gather;
  if (gather) deliver_bytes(to + static_cast<std::size_t>(rank_) * total, from, total, bytes_of(q.receive));
  for (std::size_t begin = 0; begin < total; begin += piece, ++rounds_) {
    const std::size_t bytes = std::min(piece, total - begin);
    if (gather || rank_ == q.root) copy_bytes(blocks_.stage(rank_, rounds_, 0), from + begin, bytes);
    blocks_.tick();
    blocks_.await_everyone();
    if (!gather && rank_ != q.root) deliver_bytes(to + begin, blocks_.stage(q.root, rounds_, 0), bytes, total);
    for (int i = 1; gather && i < size(); ++i) {
      const int r = (rank_ + i) % size();
      deliver_bytes(to + static_cast<std::size_t>(r) * total + begin, blocks_.stage(r, rounds_, 0), bytes,
                    bytes_of(q.receive));
    }
  }
}

void HostGroup::all_to_all_staged(const Request& q) {
  const Dtype dtype = q.send.dtype;
  const auto chunk = static_cast<std::int64_t>(chunk_bytes(size()) / size_of(dtype));
  const auto bytes = [&](std::int64_t count) { return static_cast<std::size_t>(count) * size_of(dtype); };
  std::int64_t longest = 0;
  for (int r = 0; r < size(); ++r) longest = std::max(longest, blocks_.announced(r).longest);
  const std::int64_t* sent = q.send_counts.data();
  const std::int64_t* received = q.receive_counts.data();
  copy_bytes(at(q.receive.data, displacement(received, rank_), dtype),
             at(q.send.data, displacement(sent, rank_), dtype), bytes(sent[rank_]));
  for (std::int64_t begin = 0; begin < longest; begin += chunk, ++rounds_) {
    const auto part = [&](std::int64_t count) { return std::clamp<std::int64_t>(count - begin, 0, chunk); };
    for (int r = 0; r < size(); ++r) {
      if (r == rank_ || part(sent[r]) == 0) continue;
      copy_bytes(blocks_.stage(rank_, rounds_, r), at(q.send.data, displacement(sent, r) + begin, dtype),
                 bytes(part(sent[r])));
    }
    blocks_.tick();
    blocks_.await_everyone();
    for (int i = 1; i < size(); ++i) {
      const int r = (rank_ + i) % size();
      if (part(received[r]) == 0) continue;
      deliver_bytes(at(q.receive.data, displacement(received, r) + begin, dtype), blocks_.stage(r, rounds_, rank_),
                    bytes(part(received[r])), bytes_of(q.receive));
    }
  }
}

namespace {

using Ranges = std::vector<HostGroup::Range>;

std::int64_t count_of(const Ranges& ranges) {
  std::int64_t count = 0;
  for (const auto& range : ranges) count += range.count;
  return count;
}

// Copies elements [begin, begin + count) of the ranges, seen as one sequence, to (out) or from `packed`.
void move_part(const Ranges& ranges, std::int64_t begin, std::int64_t count, std::byte* whole, std::byte* packed,
               Dtype dtype, bool out) {
  for (const auto& range : ranges) {
    const std::int64_t skip = std::min(begin, range.count), part = std::min(range.count - skip, count);
    const std::size_t bytes = static_cast<std::size_t>(part) * size_of(dtype);
    std::byte* there = at(whole, range.begin + skip, dtype);
    out ? copy_bytes(packed, there, bytes) : copy_bytes(there, packed, bytes);
    packed += bytes;
    begin -= skip;
    count -= part;
  }
}

}  // namespace

void HostGroup::reduce_partial(ConstBuffer send, Reduce reduce, std::span<const std::vector<Range>> ranges,
                               void* partial) {
  const Dtype dtype = send.dtype, to = partial_dtype(dtype);
  const auto chunk = static_cast<std::int64_t>(chunk_bytes(size()) / size_of(dtype));
  std::int64_t longest = 0;
  for (const auto& each : ranges) longest = std::max(longest, count_of(each));
  const std::int64_t mine = count_of(ranges[static_cast<std::size_t>(rank_)]);
  for (std::int64_t begin = 0; begin < longest; begin += chunk, ++rounds_) {
    for (int r = 0; r < size(); ++r) {
      move_part(ranges[static_cast<std::size_t>(r)], begin, chunk, const_cast<std::byte*>(at(send.data, 0, dtype)),
                blocks_.stage(rank_, rounds_, r), dtype, true);
    }
    blocks_.tick();
    blocks_.await_everyone();
    std::vector<const void*> sources;
    for (int r = 0; r < size(); ++r) sources.push_back(blocks_.stage(r, rounds_, rank_));
    void* out = at(partial, begin, to);
    if (begin < mine) reduce_tree({dtype, to, reduce, 1}, sources, {&out, 1}, std::min(chunk, mine - begin));
  }
}

void HostGroup::spread(Buffer receive, std::span<const std::vector<Range>> ranges) {
  const Dtype dtype = receive.dtype;
  const auto chunk = static_cast<std::int64_t>(chunk_bytes(size()) / size_of(dtype));
  std::int64_t longest = 0;
  for (const auto& each : ranges) longest = std::max(longest, count_of(each));
  for (std::int64_t begin = 0; begin < longest; begin += chunk, ++rounds_) {
    const auto move = [&](int r, bool out) {
      move_part(ranges[static_cast<std::size_t>(r)], begin, chunk, at(receive.data, 0, dtype),
                blocks_.stage(r, rounds_, 0), dtype, out);
    };
    move(rank_, true);
    blocks_.tick();
    blocks_.await_everyone();
    for (int i = 1; i < size(); ++i) move((rank_ + i) % size(), false);
  }
}

std::vector<int> split_members(HostGroup& group, int color, int key) {
  const int mine[] = {color, key};
  std::vector<int> all(2 * static_cast<std::size_t>(group.size()));
  group.exchange(mine, sizeof mine, all.data());
  return split_members(color, all);
}

std::vector<int> split_members(int color, std::span<const int> colors_and_keys) {
  std::vector<int> members;
  if (color < 0) return members;
  for (std::size_t r = 0; r < colors_and_keys.size() / 2; ++r) {
    if (colors_and_keys[2 * r] == color) members.push_back(static_cast<int>(r));
  }
  std::stable_sort(members.begin(), members.end(), [&](int a, int b) {
    return colors_and_keys[2 * static_cast<std::size_t>(a) + 1] < colors_and_keys[2 * static_cast<std::size_t>(b) + 1];
  });
  return members;
}

}  // namespace dujiang::comm
