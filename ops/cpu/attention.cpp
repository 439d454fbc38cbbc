#include "ops/attention.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <vector>

#include "framework/base/allocator.h"
#include "framework/base/threads.h"
#include "ops/cpu/arguments.h"
#include "ops/cpu/attention_one_simd.h"
#include "ops/cpu/attention_simd.h"
#include "ops/cpu/gemv.h"
#include "ops/cpu/thread_scratch.h"

namespace dujiang::ops::cpu {
namespace {

HeadRows head_rows(const View& view, std::int64_t row, std::int64_t head) {
  if (!view.defined()) return {};
  const auto step = static_cast<std::int64_t>(size_of(view.dtype));
  return {.data = static_cast<char*>(view.data) + (row * view.strides[0] + head * view.strides[1]) * step,
          .row_stride = view.strides[0],
          .head_stride = view.strides[1]};
}

void check_heads(const char* op, const View& q, const View& k, const View& v, const View& o, const View& lse,
                 const Segments& segments) {
  const bool ranks = q.shape.rank() == 3 && k.shape.rank() == 3 && v.shape == k.shape && o.shape == q.shape;
  check_arguments(ranks && is_compute(q.dtype) && k.dtype == q.dtype && v.dtype == q.dtype && o.dtype == q.dtype &&
                      k.shape[2] == q.shape[2] && q.shape[2] > 0 && k.shape[1] > 0 && q.shape[1] > 0 &&
                      q.shape[1] % k.shape[1] == 0 && unit_last(q) && unit_last(k) && unit_last(v) && unit_last(o),
                  op,
                  "q, o [n, heads, d] and k, v [m, kv_heads, d] of one dtype of f32, bf16, f16, heads a multiple "
                  "of kv_heads, unit stride on the last axis",
                  {{"q", q}, {"k", k}, {"v", v}, {"o", o}});
  check_arguments(!lse.defined() || (lse.dtype == Dtype::f32 && lse.shape == Shape({q.shape[0], q.shape[1]})), op,
                  "lse f32 [n, heads]", {{"lse", lse}, {"q", q}});
  const auto& queries = segments.query_offsets;
  const auto &keys = segments.key_offsets, &ends = segments.key_ends;
  DUJIANG_CHECK(!queries.empty() && queries.front() == 0 && queries.back() == q.shape[0] &&
                    (ends.empty() ? keys.size() == queries.size() && keys.front() == 0
                                  : keys.size() == segments.count() && ends.size() == segments.count()),
                "op {}: expected query offsets from 0 to n = {} and as many key offsets from 0, or a key offset and a "
                "key end per segment; found {}, {} and {} key ends",
                op, q.shape[0], queries.size(), keys.size(), ends.size());
  for (std::size_t s = 0; s < segments.count(); ++s) {
    const auto of_queries = queries[s + 1] - queries[s], of_keys = segments.key_end(s) - keys[s];
    DUJIANG_CHECK(of_queries >= 0 && of_keys >= of_queries && keys[s] >= 0 && segments.key_end(s) <= k.shape[0],
                  "op {}: segment {}: expected 0 <= queries <= keys of m = {}, found {} queries and {} keys from {}",
                  op, s, k.shape[0], of_queries, of_keys, keys[s]);
  }
}

/// Of the products: what a column costs grows with its place.
double cost(const HeadGroup& g) {
  return static_cast<double>(g.columns()) * static_cast<double>(2 * g.keys - g.queries);
}
/// A thread's share of the cost of all.
double share_of(const std::vector<HeadGroup>& groups, std::int64_t threads) {
  return std::accumulate(groups.begin(), groups.end(), 0.0,
                         [](double sum, const HeadGroup& g) { return sum + cost(g); }) /
         static_cast<double>(threads);
}
/// Whether a group need not be cut for threads to have enough to share out.
bool stays_whole(const HeadGroup& g, double share, std::int64_t threads) {
  return threads == 1 || cost(g) * 2 <= share;
}

/// Every key head of every segment that has queries, the costliest first, so that the last ones to be done are small.
std::vector<HeadGroup> head_groups(const View& q, const View& k, const View& v, const View& o, const View& lse,
                                   const Segments& segments, float scale) {
  const std::int64_t kv_heads = k.shape[1], group = q.shape[1] / kv_heads;
  std::vector<HeadGroup> groups;
  for (std::size_t s = 0; s < segments.count(); ++s) {
    const std::int64_t query = segments.query_offsets[s], key = segments.key_offsets[s];
    const std::int64_t queries = segments.query_offsets[s + 1] - query, keys = segments.key_end(s) - key;
    if (queries == 0) continue;
    for (std::int64_t head = 0; head < kv_heads; ++head)
      groups.push_back({.q = head_rows(q, query, head * group),
                        .k = head_rows(k, key, head),
                        .v = head_rows(v, key, head),
                        .o = head_rows(o, query, head * group),
                        .lse = head_rows(lse, query, head * group),
                        .d_o = {},
                        .dq = {},
                        .dk = {},
                        .dv = {},
                        .queries = queries,
                        .keys = keys,
                        .group = group,
                        .dim = q.shape[2],
                        .scale = scale});
  }
  std::stable_sort(groups.begin(), groups.end(),
                   [&](const HeadGroup& a, const HeadGroup& b) { return cost(a) > cost(b); });
  return groups;
}

std::int64_t blocks_of(const HeadGroup& group) {
  return (group.columns() + column_block - 1) / column_block;
}

std::int64_t tiles_over(std::int64_t keys) {
  return (keys + key_tile - 1) / key_tile;
}

/// A block of columns, or with few blocks and many keys, a range of its keys; or where there are many groups, all of a
/// group, whose packed keys then stay near.
struct ForwardTask {
  std::size_t group;
  bool whole;
  std::int64_t first, key_begin, key_end;
  std::int64_t partial;  ///< its place among the partial outcomes, -1 where it writes o itself
};

/// A query alone is bound by reading the keys and values, which nothing is worth packing for.
std::int64_t one_query_bytes(const HeadGroup& h) {
  return h.group * ((h.keys + 15) / 16 * 16 + h.dim) * static_cast<std::int64_t>(sizeof(float));
}
void one_query(const HeadGroup& h, Dtype dtype, void* scratch) {
  const std::int64_t stride = (h.keys + 15) / 16 * 16;
  auto* const scores = static_cast<float*>(scratch);
  GemvRows rows{.x = h.q.data,
                .weight = h.k.data,
                .y = scores,
                .x_stride = h.q.head_stride,
                .weight_stride = h.k.row_stride,
                .y_stride = stride,
                .m = h.group,
                .n = h.keys,
                .k = h.dim,
                .accumulate = false};
  widen_x(dtype, rows, scores + h.group * stride);
  gemv_table().wide[index_of(dtype)](rows);
  one_query_table().of[index_of(dtype)](h, scores, stride);
}

/// Several blocks share a group's packed keys; a single one packs as it goes.
void attention(Stream&, const View& q, const View& k, const View& v, const Segments& segments, float scale,
               const View& o, const View& lse) {
  check_heads("attention", q, k, v, o, lse, segments);
  DUJIANG_CHECK(scale > 0, "op attention: expected a scale above 0, found {}", scale);
  const auto groups = head_groups(q, k, v, o, lse, segments, scale);
  if (groups.empty()) return;
  const AttentionForward& kernel = attention_forwards().of[index_of(q.dtype)];
  const std::int64_t dim = q.shape[2], threads = omp_in_parallel() ? 1 : thread_count();

  struct Pack {
    std::size_t group;
    std::int64_t tile;
  };
  std::vector<Pack> packs;
  std::vector<std::int64_t> packed_at(groups.size(), -1);  // in tiles
  const double share = share_of(groups, threads);
  const auto whole = [&](const HeadGroup& g) { return blocks_of(g) > 1 && stays_whole(g, share, threads); };
  std::int64_t blocks = 0, most_tiles = 0;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    blocks += blocks_of(groups[g]);
    if (whole(groups[g])) most_tiles = std::max(most_tiles, tiles_over(groups[g].keys));
    if (blocks_of(groups[g]) == 1 || whole(groups[g])) continue;
    packed_at[g] = static_cast<std::int64_t>(packs.size());
    for (std::int64_t tile = 0; tile < tiles_over(groups[g].keys); ++tile) packs.push_back({g, tile});
  }
  const std::int64_t tile_bytes = kernel.tile_bytes(dim);
  const auto packed = allocate_host(packs.size() * static_cast<std::size_t>(tile_bytes));
  const auto tiles_of = [&](std::size_t g) {
    return packed_at[g] < 0 ? nullptr : static_cast<char*>(packed.get()) + packed_at[g] * tile_bytes;
  };
  parallel_tasks(static_cast<std::int64_t>(packs.size()), [&](std::int64_t i) {
    const auto [group, tile] = packs[static_cast<std::size_t>(i)];
    kernel.pack(groups[group], tile, tiles_of(group));
  });

  // Ranges of keys are whole tiles, four at least: a join must stay cheap beside them, and all columns of a block,
  // whose limits lie less than a block apart, see the start of each range.
  static_assert(3 * key_tile >= column_block);
  struct Join {
    std::size_t group;
    std::int64_t first, parts, partial;
  };
  std::vector<ForwardTask> tasks;
  std::vector<Join> joins;
  std::int64_t partials = 0;
  const std::int64_t wanted = blocks < 2 * threads && threads > 1 ? (2 * threads + blocks - 1) / blocks : 1;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    if (whole(groups[g])) {
      tasks.push_back(
          {.group = g, .whole = true, .first = 0, .key_begin = 0, .key_end = groups[g].keys, .partial = -1});
      continue;
    }
    for (std::int64_t b = blocks_of(groups[g]) - 1; b >= 0; --b) {
      const std::int64_t first = b * column_block;
      const std::int64_t keys = groups[g].visible(std::min(first + column_block, groups[g].columns()) - 1);
      const std::int64_t tiles = tiles_over(keys);
      const std::int64_t parts = std::clamp<std::int64_t>(tiles / 4, 1, wanted);
      if (parts > 1) joins.push_back({g, first, parts, partials});
      for (std::int64_t p = 0; p < parts; ++p)
        tasks.push_back({g, false, first, tiles * p / parts * key_tile, tiles * (p + 1) / parts * key_tile,
                         parts > 1 ? partials++ : -1});
    }
  }
  const std::int64_t partial_bytes = kernel.partial_bytes(dim);
  const auto partial = allocate_host(static_cast<std::size_t>(partials * partial_bytes));
  const auto partial_at = [&](std::int64_t p) {
    return p < 0 ? nullptr : static_cast<char*>(partial.get()) + p * partial_bytes;
  };
  const std::int64_t block_bytes = (kernel.scratch_bytes(dim) + 63) / 64 * 64;
  std::int64_t scratch_bytes = block_bytes + most_tiles * tile_bytes;
  const auto alone = [&](const ForwardTask& t) {
    return groups[t.group].queries == 1 && blocks_of(groups[t.group]) == 1 && t.partial < 0;
  };
  for (const auto& t : tasks)
    if (alone(t)) scratch_bytes = std::max(scratch_bytes, one_query_bytes(groups[t.group]));
  const ThreadScratch scratch(scratch_bytes);
  parallel_tasks(static_cast<std::int64_t>(tasks.size()), [&](std::int64_t i) {
    const ForwardTask& t = tasks[static_cast<std::size_t>(i)];
    const HeadGroup& h = groups[t.group];
    char* const mine = static_cast<char*>(scratch.mine());
    if (alone(t)) return one_query(h, q.dtype, mine);
    if (!t.whole)
      return kernel.block(h, t.first, t.key_begin, t.key_end, tiles_of(t.group), mine, partial_at(t.partial));
    char* const tiles = mine + block_bytes;
    for (std::int64_t tile = 0; tile < tiles_over(h.keys); ++tile) kernel.pack(h, tile, tiles);
    for (std::int64_t b = blocks_of(h) - 1; b >= 0; --b)
      kernel.block(h, b * column_block, t.key_begin, t.key_end, tiles, mine, nullptr);
  });
  parallel_tasks(static_cast<std::int64_t>(joins.size()), [&](std::int64_t i) {
    const Join& j = joins[static_cast<std::size_t>(i)];
    kernel.join(groups[j.group], j.first, j.parts, partial_at(j.partial));
  });
}

/// A range of column blocks of one group. Where it is the whole group, it finishes dk and dv from the thread's own
/// sums; else the ranges' sums are kept and totalled in order afterwards.
struct BackwardTask {
  std::size_t group;
  std::int64_t block_begin, block_end;
  std::int64_t sums;  ///< byte offset of its sums, -1 where it is the whole group
};

void attention_backward(Stream&, const View& d_o, const View& q, const View& k, const View& v, const View& o,
                        const View& lse, const Segments& segments, float scale, const View& dq, const View& dk,
                        const View& dv) {
  const char* const op = "attention_backward";
  check_heads(op, q, k, v, o, lse, segments);
  const bool wide = dk.dtype == Dtype::f32 && dv.dtype == Dtype::f32;
  const auto as_q = [&](View view) {  // for checks of everything but the dtype
    if (wide) view.dtype = q.dtype;
    return view;
  };
  check_heads(op, dq, as_q(dk), as_q(dv), d_o, lse, segments);
  check_arguments(
      dq.dtype == q.dtype && dq.shape == q.shape && dk.shape == k.shape && (lse.defined() || q.count() == 0), op,
      "gradients like q, k, v (dk and dv may be f32) and a defined lse",
      {{"q", q}, {"k", k}, {"dq", dq}, {"dk", dk}, {"lse", lse}});
  DUJIANG_CHECK(std::ranges::equal(segments.query_offsets, segments.key_offsets) && k.shape[0] == q.shape[0],
                "op {}: query and key offsets differ; the backward has no key cache", op);
  auto groups = head_groups(q, k, v, o, lse, segments, scale);
  if (groups.empty()) return;
  const auto gradients = head_groups(dq, dk, dv, d_o, lse, segments, scale);  // in the same order
  for (std::size_t g = 0; g < groups.size(); ++g) {
    groups[g].dq = gradients[g].q;
    groups[g].dk = gradients[g].k;
    groups[g].dv = gradients[g].v;
    groups[g].d_o = gradients[g].o;
  }
  const AttentionBackward& kernel = attention_backwards().of[index_of(q.dtype)];
  const auto finish = wide ? kernel.finish_f32 : kernel.finish;
  const std::int64_t dim = q.shape[2], threads = omp_in_parallel() ? 1 : thread_count();

  // A group that is cut is cut into ranges of equal cost.
  const double share = share_of(groups, threads);
  struct Finish {
    std::size_t group;
    std::int64_t begin, end, parts, sums;
    std::size_t seen;
  };
  std::vector<BackwardTask> tasks;
  std::vector<Finish> finishes;
  std::vector<std::int64_t> seen;
  std::int64_t kept = 0, most_keys = 0;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const HeadGroup& h = groups[g];
    const std::int64_t blocks = blocks_of(h);
    most_keys = std::max(most_keys, h.keys);
    const std::int64_t parts = stays_whole(h, share, threads)
                                   ? 1
                                   : std::clamp<std::int64_t>(static_cast<std::int64_t>(cost(h) * 4 / share), 1,
                                                              std::max<std::int64_t>(blocks / 4, 1));
    if (parts == 1) {
      tasks.push_back({g, 0, blocks, -1});
      continue;
    }
    const std::int64_t bytes = kernel.sums_bytes(dim, h.keys);
    for (std::int64_t row = 0; row < h.keys; row += 256)
      finishes.push_back({g, row, std::min(row + 256, h.keys), parts, kept, seen.size()});
    std::int64_t begin = 0;
    for (std::int64_t p = 0; p < parts; ++p) {
      const auto reach = std::sqrt(static_cast<double>(p + 1) / static_cast<double>(parts));
      const std::int64_t end = p + 1 == parts
                                   ? blocks
                                   : std::clamp<std::int64_t>(std::llround(reach * static_cast<double>(blocks)),
                                                              begin + 1, blocks - (parts - 1 - p));
      tasks.push_back({g, begin, end, kept});
      seen.push_back(h.visible(std::min(end * column_block, h.columns()) - 1));
      kept += bytes;
      begin = end;
    }
  }
  const auto sums = allocate_host(static_cast<std::size_t>(kept));
  const std::int64_t scratch_bytes = (kernel.scratch_bytes(dim, most_keys) + 63) / 64 * 64;
  const ThreadScratch scratch(scratch_bytes + kernel.sums_bytes(dim, most_keys));
  parallel_tasks(static_cast<std::int64_t>(tasks.size()), [&](std::int64_t i) {
    const BackwardTask& t = tasks[static_cast<std::size_t>(i)];
    const HeadGroup& h = groups[t.group];
    char* const mine = static_cast<char*>(scratch.mine());
    void* const to = t.sums < 0 ? mine + scratch_bytes : static_cast<char*>(sums.get()) + t.sums;
    const auto later = static_cast<std::size_t>(i + threads);
    const bool starts = later < tasks.size() && tasks[later].block_begin == 0;
    kernel.blocks(h, t.block_begin, t.block_end, mine, to, starts ? &groups[tasks[later].group] : nullptr);
    if (t.sums < 0) finish(h, 0, h.keys, 1, to, &h.keys);
  });
  parallel_tasks(static_cast<std::int64_t>(finishes.size()), [&](std::int64_t i) {
    const Finish& f = finishes[static_cast<std::size_t>(i)];
    finish(groups[f.group], f.begin, f.end, f.parts, static_cast<char*>(sums.get()) + f.sums, &seen[f.seen]);
  });
}

[[maybe_unused]] const bool registered =
    ops::attention.add(DeviceType::cpu, attention) && ops::attention_backward.add(DeviceType::cpu, attention_backward);

}  // namespace
}  // namespace dujiang::ops::cpu
