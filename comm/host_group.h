#pragma once
// HostGroup: collective operations between ranks that share memory: threads of one process, or processes of one host
// over a shared block of memory each. The `thread` transport, the `mpi` transport on one host and the stand-ins of the
// vendors' libraries run on it. It knows no MPI, no files and no threads of its own: calls block.
//
// How: every rank owns a block that all can read and write. A rank posts what it wants (Signature) and where its data
// lie in its block; ranks that disagree are found before data moves. Small operations travel inside the blocks, one
// synchronisation each. Larger ones read one another's buffers where they lie when every rank's buffers can be reached
// (PeerMemory), and otherwise go through staging areas in the blocks, chunk by chunk.

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "comm/communicator.h"

namespace dujiang::comm {

/// How a rank reaches buffers of the others where they lie.
class PeerMemory {
 public:
  virtual ~PeerMemory() = default;
  /// A handle, not 0, under which the other ranks reach [data, data + bytes); 0 when they can't.
  virtual std::uint64_t offer(const void* data, std::size_t bytes) const = 0;
  /// Rank's memory under its handle, as an address here.
  virtual std::byte* reach(int rank, std::uint64_t handle) const = 0;
};

class HostGroup {
 public:
  /// Bytes of one rank's block.
  static std::size_t block_bytes(int size);
  /// Largest operation, in bytes of the larger buffer, that travels inside the blocks.
  static std::size_t small_bytes(int size);
  /// Bytes of a staging chunk: operations larger than it go in rounds.
  static std::size_t chunk_bytes(int size);

  /// `blocks` has every rank's block, zeroed before the first rank starts and aligned to 64 bytes, as addresses here;
  /// it must outlive the group. `memory` may be null: then nothing is reached directly. `interrupted` is asked while
  /// waiting and ends the wait with an Error when it returns true.
  HostGroup(std::vector<std::byte*> blocks, int rank, std::shared_ptr<const PeerMemory> memory,
            std::function<bool()> interrupted);

  int rank() const { return rank_; }
  int size() const { return static_cast<int>(blocks_.size()); }

  /// Runs a request, batch_send_recv excepted, to its end. All ranks run the same requests in the same order. Throws
  /// Error when the ranks' signatures differ, when another rank has called abandon(), or on an interruption.
  void run(const Request& request);

  /// The first step of a request, which never blocks: posts it. Follow with finish().
  void post(const Request& request);
  /// Whether every rank has posted the request, looking for at most `patience`.
  bool all_posted(std::chrono::nanoseconds patience);
  void finish(const Request& request);

  /// Every wait of every rank ends with an Error from now on, with this reason.
  void abandon(const std::string& why);

 private:
  struct Block;
  std::vector<std::byte*> blocks_;
  int rank_;
};

}  // namespace dujiang::comm
