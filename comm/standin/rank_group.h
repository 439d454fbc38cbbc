#pragma once
// RankGroup: ranks of one host (processes or threads) that find one another by an id and run blocking operations over
// shared memory. What the vendors' libraries do between devices, for their stand-ins.
//
// The memory is anonymous (memfd) and reached through /proc/<pid>/fd, so that nothing can be left behind whoever is
// killed whenever. The process that made an id keeps the memory until its own rank's group has it.

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/host/host_group.h"

namespace dujiang::standin {

using Interrupted = std::function<bool()>;

class RankGroup {
 public:
  static constexpr int max_size = 64;
  static constexpr std::size_t max_id_bytes = 96;

  /// A new group's id: a short line of text. To be called once per group, by a process that will be one of its ranks.
  static std::string make_id();

  /// Blocks until all `size` ranks of the group have come. Throws Error that names the ranks missing at the deadline,
  /// for a rank that exists already, or for an id that leads nowhere.
  RankGroup(const std::string& id, int rank, int size, std::chrono::steady_clock::time_point deadline,
            const Interrupted& interrupted = nullptr);
  ~RankGroup();
  RankGroup(const RankGroup&) = delete;
  RankGroup& operator=(const RankGroup&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }

  /// A place in the order of this rank's operations, to be taken when the operation is requested and given up (reset)
  /// when it is over or dropped. run() waits for its turn.
  class Turn;
  std::shared_ptr<Turn> next_turn();

  /// Runs a request to its end, batch_send_recv too: its k-th send to a peer meets that peer's k-th receive from here
  /// (also across batches), and is complete when received. Throws Error when the ranks' requests differ, on abort() by
  /// any rank, or when `interrupted` returns true, of which the other ranks hear nothing. After an Error the group is
  /// of no more use to this rank.
  void run(const comm::Request& request, const Turn& turn, const Interrupted& interrupted);

  /// A meeting of all ranks, on the host: each of the `meetings` slots works once. `key` is what they have to agree on.
  enum class Met { all, differ, late };
  static constexpr int meetings = 16;
  Met meet(int slot, std::uint64_t key, std::chrono::steady_clock::time_point deadline,
           const Interrupted& interrupted = nullptr);

  /// Every wait of every rank ends with an Error that gives this reason. Keeps the first.
  void abort(const std::string& why);
  /// Why, or empty.
  std::string aborted() const;

  /// Collective over `members` (ranks here, in the order of the new group), one of which this rank is. Requests of
  /// equal `tag` and members belong together; the members may have several under way under different tags.
  std::unique_ptr<RankGroup> subgroup(const std::vector<int>& members, std::uint64_t tag,
                                      std::chrono::steady_clock::time_point deadline,
                                      const Interrupted& interrupted = nullptr);

 private:
  struct Segment;
  struct Mapping;
  struct Channel;
  struct Transfer;
  struct Turns;
  bool stopped() const;
  void pause_or_throw(int& idle) const;
  bool advance(Transfer& transfer);
  void exchange(const std::vector<comm::P2p>& messages);
  std::string claim_id(const std::vector<int>& members, std::uint64_t tag, const std::function<void()>& wait);
  Channel& channel(int from, int to) const;

  const int rank_, size_;
  std::shared_ptr<Mapping> mapping_;
  std::shared_ptr<Turns> turns_;
  const Interrupted* interrupted_ = nullptr;  // of the request that runs
  std::string broken_;                        // why this rank's last request failed
  std::unique_ptr<comm::HostGroup> group_;
};

}  // namespace dujiang::standin
