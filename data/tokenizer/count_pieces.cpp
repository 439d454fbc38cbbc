#define XXH_INLINE_ALL
#include <xxhash.h>

#include <atomic>

#include "data/tokenizer/train_byte_bpe.h"
#include "framework/base/threads.h"

namespace dujiang::data {

namespace {

// Open addressing over pieces.
class PieceTable {
 public:
  void add(std::string_view piece, std::uint64_t hash, std::int64_t count) {
    if (used_ * 2 >= slots_.size()) grow();
    Slot& slot = find(piece, hash);
    if (slot.piece.count == 0) {
      slot = {{piece, 0}, hash};
      ++used_;
    }
    slot.piece.count += count;
  }
  template <class F>
  void for_each(F&& f) const {
    for (const Slot& slot : slots_) {
      if (slot.piece.count != 0) f(slot.piece, slot.hash);
    }
  }
  std::size_t size() const { return used_; }

 private:
  struct Slot {
    PieceCount piece;  // count 0: free
    std::uint64_t hash = 0;
  };

  Slot& find(std::string_view piece, std::uint64_t hash) {
    std::size_t at = hash & (slots_.size() - 1);
    while (slots_[at].piece.count != 0 && (slots_[at].hash != hash || slots_[at].piece.bytes != piece))
      at = (at + 1) & (slots_.size() - 1);
    return slots_[at];
  }
  void grow() {
    std::vector<Slot> old(slots_.size() * 2);
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.piece.count != 0) find(slot.piece.bytes, slot.hash) = slot;
    }
  }

  std::vector<Slot> slots_{std::size_t{1} << 12};
  std::size_t used_ = 0;
};

}  // namespace

std::vector<PieceCount> count_pieces(const Pretokenizer& pretokenizer, std::span<const std::string_view> texts,
                                     int threads) {
  const auto workers = static_cast<std::size_t>(threads);
  std::vector<PieceTable> tables(workers);
  std::atomic<std::size_t> next{0};
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (std::size_t worker = 0; worker < workers; ++worker) {
    for (std::size_t i; (i = next++) < texts.size();) {
      pretokenizer.for_each_piece(texts[i], [&](std::string_view piece) {
        tables[worker].add(piece, XXH3_64bits(piece.data(), piece.size()), 1);
      });
    }
  }
  if (workers > 1) {
    // Each worker adds up the pieces of its share of hashes. The low bits choose the slot.
    std::vector<PieceTable> sums(workers);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (std::size_t worker = 0; worker < workers; ++worker) {
      for (const PieceTable& table : tables) {
        table.for_each([&](const PieceCount& piece, std::uint64_t hash) {
          if ((hash >> 40) % workers == worker) sums[worker].add(piece.bytes, hash, piece.count);
        });
      }
    }
    tables = std::move(sums);
  }
  std::vector<PieceCount> out;
  for (PieceTable& table : tables) {
    table.for_each([&](const PieceCount& piece, std::uint64_t) { out.push_back(piece); });
    table = {};
  }
  return out;
}

}  // namespace dujiang::data
