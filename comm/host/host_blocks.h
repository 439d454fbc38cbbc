#pragma once
// HostBlocks: the memory that the ranks of a HostGroup share, and how they meet in it. Every rank owns one block: a
// clock that counts its steps, what it says of its next operation, and room for data on the way.

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "comm/operation.h"
#include "framework/base/check.h"

namespace dujiang::comm {

/// What waits throw when another rank gave up: a consequence of an error, never its cause.
class Abandoned : public Error {
 public:
  using Error::Error;
};

/// The ranks' requests differ: every rank throws the same.
class Disagreement : public Error {
 public:
  using Error::Error;
};

class HostBlocks {
 public:
  /// What a rank says of its next operation.
  struct Announcement {
    Signature signature;
    std::uint64_t send, receive;  ///< handles of PeerMemory; 0: not to be reached
    std::int64_t longest;         ///< of the pieces of all_to_all
    std::uint32_t small;          ///< its data lie in small() already
    std::uint32_t source_line;
    char source_file[216];  ///< its end, where it is longer
  };

  static constexpr std::uint32_t turns = 8;

  static std::size_t block_bytes(int size);
  static std::size_t small_bytes(int size);
  static std::size_t chunk_bytes(int size);

  /// As HostGroup's.
  HostBlocks(std::vector<std::byte*> blocks, int rank, std::function<bool()> interrupted);

  int rank() const { return rank_; }
  int size() const { return static_cast<int>(blocks_.size()); }

  /// Turns to the next operation. What follows here is that operation's, in one of `turns` places that are used in
  /// turn: a rank that is so far ahead waits here until everybody has finished the operation whose place it takes.
  /// Throws Abandoned once this rank has given up.
  void next_operation();
  Announcement& announcement();
  const Announcement& announced(int rank) const;
  /// size() counts of all_to_all.
  std::int64_t* counts(int rank) const;
  /// small_bytes().
  std::byte* small(int rank) const;

  /// Piece 0 to size() of a round of staging, chunk_bytes() each and side by side; by turns of two rounds.
  std::byte* stage(int rank, std::uint32_t round, int piece) const;

  /// One step of this rank: what it wrote before is there for those that have awaited it.
  void tick();
  /// Until every other rank, or one, has made as many steps as this one. Throws Abandoned.
  void await_everyone();
  void await(int rank) { await(rank, now_); }
  /// Whether these ranks have, looking for at most `patience`.
  bool came(std::span<const int> ranks, std::chrono::nanoseconds patience) const;
  /// Every wait of every rank ends from now on, with this reason.
  void abandon(const std::string& why);

 private:
  struct Block;
  Block& block(int rank) const;
  std::byte* data(int rank) const;
  bool reached(int rank, std::uint32_t time) const;
  void await(int rank, std::uint32_t time);
  void check_whole() const;

  const std::vector<std::byte*> blocks_;
  const int rank_;
  const std::function<bool()> interrupted_;
  const bool crowded_;            ///< more ranks than processors
  std::uint32_t now_ = 0;         ///< steps this rank has made; everyone makes the same for each operation
  std::uint32_t operations_ = 0;  ///< begun so far
  std::array<std::uint32_t, turns> begun_at_{};
};

}  // namespace dujiang::comm
