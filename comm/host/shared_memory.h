#pragma once
// Memory that processes of one host share without a name in any file system (Linux memfd): nothing is left behind by
// a process that is killed, and a small /dev/shm doesn't bound it. Another process of the same user attaches through
// /proc while the creator keeps the descriptor open.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "comm/host/host_group.h"

namespace dujiang::comm {

/// How a process finds another's segment. Trivial, so that it can be sent.
struct SegmentAddress {
  std::int64_t pid = 0;
  std::int32_t descriptor = -1;
  std::uint32_t number = 0;  ///< of the region, see SharedRegions
  std::uint64_t bytes = 0;
  std::uint64_t secret = 0;  ///< stands in the segment's first bytes while others attach
};

class SharedSegment {
 public:
  /// Zeroed memory, all of it reserved now. Throws Error naming the size when the machine has no more.
  static std::shared_ptr<SharedSegment> create(std::size_t bytes);
  /// Null when the segment can't be reached or isn't the one meant (another user, another PID namespace).
  static std::shared_ptr<SharedSegment> attach(const SegmentAddress& address);
  ~SharedSegment();
  SharedSegment(const SharedSegment&) = delete;
  SharedSegment& operator=(const SharedSegment&) = delete;

  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  SegmentAddress address() const;
  /// Nobody attaches any more: closes the descriptor and clears the secret.
  void close();

 private:
  SharedSegment(std::byte* data, std::size_t bytes, int descriptor, std::uint64_t secret)
      : data_(data), bytes_(bytes), descriptor_(descriptor), secret_(secret) {}
  std::byte* data_;
  std::size_t bytes_;
  int descriptor_;
  std::uint64_t secret_;
};

/// The memory that ranks of this host have allocated for one another to read and write. Ranks are those of the job.
/// Thread-safe.
class SharedRegions : public std::enable_shared_from_this<SharedRegions> {
 public:
  /// A rank's segment, under the number that this rank gave it.
  struct Part {
    int rank = 0;
    std::uint32_t number = 0;
    std::shared_ptr<SharedSegment> segment;
  };
  /// The number of this rank's next region.
  std::uint32_t next_number();
  /// Enters a region: every rank's part, `own` being this rank's. Returns the own memory; releasing it gives up all.
  std::shared_ptr<void> add(std::vector<Part> parts, std::size_t own);

  /// As PeerMemory, for a group of these ranks of the job.
  std::uint64_t offer(const std::vector<int>& group, const void* data, std::size_t bytes) const;
  std::byte* reach(int rank, std::uint64_t handle) const;

 private:
  void remove(const std::byte* own);

  mutable std::mutex mutex_;
  std::uint32_t numbers_ = 0;
  std::map<const std::byte*, std::vector<Part>> own_;                                  // by first address
  std::map<std::pair<int, std::uint32_t>, std::shared_ptr<SharedSegment>> reachable_;  // by rank and its number
};

}  // namespace dujiang::comm
