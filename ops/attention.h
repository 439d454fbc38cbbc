#pragma once
// Causal attention over packed segments, with grouped queries (Ainslie et al. 2023), tiled so that the score matrix
// is never written (Dao et al. 2022).

#include <cstdint>
#include <span>

#include "framework/base/view.h"
#include "ops/kernel.h"

namespace dujiang::ops {

/// Which rows see each other. Segment s holds queries [query_offsets[s], query_offsets[s+1]) and keys
/// [key_offsets[s], key_offsets[s+1]), aligned at the end: of its m queries and n >= m keys, query i sees keys
/// 0 .. n - m + i. Sequences of a batch and documents of a packed sequence are all just segments. Host memory.
struct Segments {
  std::span<const std::int32_t> query_offsets;
  std::span<const std::int32_t> key_offsets;
  /// Where given, one per segment: it holds keys [key_offsets[s], key_ends[s]), anywhere among the rows of k.
  std::span<const std::int32_t> key_ends = {};

  std::size_t count() const { return query_offsets.size() - 1; }
  std::int32_t key_end(std::size_t s) const { return key_ends.empty() ? key_offsets[s + 1] : key_ends[s]; }
};

/// o = softmax(scale * q·kᵀ) v per head, scale > 0; query head h reads key head h / (heads / kv_heads).
/// q, o [n, heads, d]; k, v [m, kv_heads, d]; lse f32 [n, heads] = log-sum-exp of the scaled scores (undefined: not
/// written). One dtype of f32, bf16 or f16; unit stride on the last axis, the others free; softmax in f32.
extern Kernel<void(const View& q, const View& k, const View& v, const Segments& segments, float scale, const View& o,
                   const View& lse)>
    attention;

/// Gradients dq, dk, dv (all written, none accumulated) from do, the forward's inputs and outputs; dk and dv may both
/// be f32 beside q of another dtype, to be summed on. Deterministic for a given thread count. query and key offsets are
/// equal (training has no key cache).
extern Kernel<void(const View& d_o, const View& q, const View& k, const View& v, const View& o, const View& lse,
                   const Segments& segments, float scale, const View& dq, const View& dk, const View& dv)>
    attention_backward;

}  // namespace dujiang::ops
