#pragma once
// HostGroup: collective operations between ranks that share memory: threads of one process, or processes of one host
// over a shared block of memory each. The `thread` transport, the `mpi` transport on one host and the stand-ins of the
// vendors' libraries run on it. It knows no MPI, no files and no threads of its own: calls block.
//
// How: every rank owns a block that all can read and write. A rank posts what it wants (Signature) and where its data
// lie; ranks that disagree are found before data moves. Small operations travel inside the blocks, one synchronisation
// each. Larger ones read one another's buffers where they lie when every rank's buffers can be reached (PeerMemory),
// and otherwise go through staging areas in the blocks, chunk by chunk, one synchronisation a chunk.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/host/host_blocks.h"

namespace dujiang::comm {

/// How a rank reaches buffers of the others where they lie.
class PeerMemory {
 public:
  virtual ~PeerMemory() = default;
  /// A handle, not 0, under which the other ranks reach [data, data + bytes); 0 when they can't.
  virtual std::uint64_t offer(const void* data, std::size_t bytes) const = 0;
  /// Rank's memory under its handle, as an address here. Throws Error when this rank has given it up.
  virtual std::byte* reach(int rank, std::uint64_t handle) const = 0;
};

class HostGroup {
 public:
  /// Bytes of one rank's block.
  static std::size_t block_bytes(int size);
  /// Bytes of the larger buffer up to which an operation travels inside the blocks.
  static std::size_t small_bytes(int size);
  /// Bytes of one rank's staging chunk; larger operations go in rounds.
  static std::size_t chunk_bytes(int size);

  /// `blocks` has every rank's block, zeroed before the first rank starts and aligned to 64 bytes, as addresses here;
  /// it must outlive the group. `memory` may be null: then nothing is reached directly. `interrupted` is asked now and
  /// then while waiting, and ends the wait with an Error when it returns true.
  HostGroup(std::vector<std::byte*> blocks, int rank, std::shared_ptr<const PeerMemory> memory,
            std::function<bool()> interrupted);

  int rank() const { return rank_; }
  int size() const { return blocks_.size(); }

  /// Runs a request, batch_send_recv excepted, to its end. All ranks run the same requests in the same order. Throws
  /// Error when the ranks' signatures differ, when another rank has called abandon(), or on an interruption.
  void run(const Request& request);

  /// The first step of a request: posts it. Blocks only when this rank is several operations ahead. Follow with
  /// finish().
  void post(const Request& request);
  /// Whether those ranks have posted it that finish() would wait for, looking for at most `patience`.
  bool ready(const Request& request, std::chrono::nanoseconds patience) const;
  void finish(const Request& request);

  struct Range {
    std::int64_t begin = 0, count = 0;
  };
  /// One step of a hierarchical reduction: `partial` receives this group's reduction of elements `ranges[rank()]` of
  /// everyone's `send`, one range after the other, as partial_dtype(). Every rank passes the same ranges. An average is
  /// left to the caller: pass sum.
  void reduce_partial(ConstBuffer send, Reduce reduce, std::span<const std::vector<Range>> ranges, void* partial);
  /// Its way back: everyone's `receive` gets ranges[r] from rank r's, for every r.
  void spread(Buffer receive, std::span<const std::vector<Range>> ranges);

  /// Everyone receives the ranks' bytes: a fixed-size exchange for the transports' own use.
  void exchange(const void* mine, std::size_t bytes, void* all);

  /// Every wait of every rank ends with an Error from now on, with this reason.
  void abandon(const std::string& why);

 private:
  enum class Mode { small, direct, staged };

  std::vector<int> awaited(const Request& request) const;
  Mode agree(const Request& request, std::span<const int> ranks) const;
  void run_small(const Request& request);
  void run_direct(const Request& request);
  void run_staged(const Request& request);
  void reduce_staged(const Request& request);
  void move_staged(const Request& request);
  void all_to_all_staged(const Request& request);

  HostBlocks blocks_;
  const int rank_;
  const std::shared_ptr<const PeerMemory> memory_;
  std::uint32_t rounds_ = 0;  ///< of staging so far
};

/// Which ranks of `group` give this colour, by key, then by rank; none for a negative colour. Every rank calls it.
std::vector<int> split_members(HostGroup& group, int color, int key);

/// The same from everyone's colours and keys, one after the other in rank order.
std::vector<int> split_members(int color, std::span<const int> colors_and_keys);

}  // namespace dujiang::comm
