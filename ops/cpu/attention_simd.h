#pragma once
// What the attention kernels of one instruction set offer to attention.cpp. Plain structs: *_simd.cpp include this.
//
// The unit of work is a key head of a segment with the `group` query heads that read it. Its (query, head) pairs are
// its columns: column c is query c / group of head c % group, so that few queries still fill a block, each key tile
// serves the whole group, and what a column sees grows with c.

#include <cstdint>

#include "ops/cpu/isa.h"

namespace dujiang::ops::cpu {

inline constexpr std::int64_t column_block = 64;  ///< columns that are worked on together
inline constexpr std::int64_t key_tile = 96;      ///< keys that are worked on together

/// Element (row, head, x) lies at data[row * row_stride + head * head_stride + x].
struct HeadRows {
  void* data = nullptr;
  std::int64_t row_stride = 0, head_stride = 0;
};

/// One key head of one segment: every pointer is at the segment's first row and the (group's first) head.
struct HeadGroup {
  HeadRows q, k, v, o, lse;  ///< lse: data may be null in the forward
  HeadRows d_o, dq, dk, dv;  ///< the backward's
  std::int64_t queries = 0, keys = 0, group = 1, dim = 0;
  float scale = 1;

  std::int64_t columns() const { return queries * group; }
  /// How many keys column c sees.
  std::int64_t visible(std::int64_t c) const { return keys - queries + c / group + 1; }
};

/// For one dtype. Scratch and packed memory are aligned to 64 bytes; sizes are in bytes.
struct AttentionForward {
  std::int64_t (*tile_bytes)(std::int64_t dim);     ///< of one packed tile
  std::int64_t (*scratch_bytes)(std::int64_t dim);  ///< of `block`
  std::int64_t (*partial_bytes)(std::int64_t dim);
  /// Packs keys and values of tile `tile`.
  void (*pack)(const HeadGroup& head, std::int64_t tile, void* packed);
  /// Columns [first, first + column_block) against keys [key_begin, key_end): key_begin is a multiple of key_tile, and
  /// every column sees the first of them.
  /// packed: all tiles of the head, or null to pack on the way. Where partial is given, that gets the unnormalised
  /// outcome instead of o and lse.
  void (*block)(const HeadGroup& head, std::int64_t first, std::int64_t key_begin, std::int64_t key_end,
                const void* packed, void* scratch, void* partial);
  /// Joins the partial outcomes of consecutive key ranges (partials lie one after another) into o and lse.
  void (*join)(const HeadGroup& head, std::int64_t first, std::int64_t parts, void* partials);
};

struct AttentionBackward {
  std::int64_t (*scratch_bytes)(std::int64_t dim, std::int64_t keys);
  std::int64_t (*sums_bytes)(std::int64_t dim, std::int64_t keys);
  /// dq of the column blocks [block_begin, block_end), and in `sums` what they add to dk and dv (of the keys that
  /// they see; the others are left alone). What `next` starts with is brought near, if that is given.
  void (*blocks)(const HeadGroup& head, std::int64_t block_begin, std::int64_t block_end, void* scratch, void* sums,
                 const HeadGroup* next);
  /// Writes rows [begin, end) of dk and dv: the total of `parts` sums (one after another, each sums_bytes), of which
  /// part p holds rows below seen[p].
  using Finish = void (*)(const HeadGroup& head, std::int64_t begin, std::int64_t end, std::int64_t parts,
                          const void* sums, const std::int64_t* seen);
  Finish finish, finish_f32;  ///< into dk and dv of the dtype, of f32
};

/// By dtype: f32, bf16, f16.
struct AttentionForwards {
  AttentionForward of[3];
};
struct AttentionBackwards {
  AttentionBackward of[3];
};

DUJIANG_SIMD_TABLE(AttentionForwards, attention_forwards)
DUJIANG_SIMD_TABLE(AttentionBackwards, attention_backwards)

}  // namespace dujiang::ops::cpu
