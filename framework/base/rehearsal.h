#pragma once
// A rehearsal: the real code of a run, on one thread, with nothing computed and no memory used. Memory has addresses
// and is counted, ops are counted and take the time that a device of a given pace would need, on a clock of its own.
//
// While a RehearsalScope lives, allocate_host() hands out memory that takes no pages until it is touched and reads as
// zero, and ops::Kernel counts a call and leaves out its loops, but for calls of few elements, whose results host code
// may read. parallel_ranges() does nothing outside of ops either; parallel_tasks() runs its tasks one by one there.

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "framework/base/op_observer.h"

namespace dujiang {

/// What memory is for.
enum class MemoryUse : std::uint8_t { parameters, gradients, optimizer, activations, workspace };
inline constexpr std::size_t memory_use_count = 5;
const char* name_of(MemoryUse use);

/// Says of the memory that the calling thread allocates while this lives what it is for; activations otherwise. Only a
/// rehearsal asks.
class MemoryScope {
 public:
  explicit MemoryScope(MemoryUse use);
  ~MemoryScope();
  MemoryScope(const MemoryScope&) = delete;
  MemoryScope& operator=(const MemoryScope&) = delete;

 private:
  MemoryUse before_;
};

struct MemoryBytes {
  std::array<std::uint64_t, memory_use_count> of{};  ///< by MemoryUse
  std::uint64_t total = 0;
  std::uint64_t operator[](MemoryUse use) const { return of[static_cast<std::size_t>(use)]; }
};

/// How fast a device works: what it reaches, not its peak.
struct Pace {
  double half_flops = 1e12, single_flops = 1e12;  ///< FLOP/s of products in bf16 or f16, in f32
  double attention_share = 1;                     ///< of these rates, in attention
  double bytes = 1e11;                            ///< byte/s of sweeps over memory
  double call = 0;                                ///< s, at least, per op
};

class Rehearsal final : public OpObserver {
 public:
  /// `workspaces`: the host's kernels run as far as they allocate, so that their temporary memory counts.
  explicit Rehearsal(const Pace& pace, bool workspaces);
  Rehearsal(const Rehearsal&) = delete;
  Rehearsal& operator=(const Rehearsal&) = delete;

  /// The calling thread's; null outside of a rehearsal.
  static Rehearsal* current();
  /// Which loops the calling thread runs: all, those of parallel_tasks() alone (in a rehearsal), none (in its ops).
  enum class Loops : std::uint8_t { all, tasks, none };
  static Loops loops();

  /// May outlive this. Counted as allocate_host() counts; where `exact`, without its rounding.
  std::shared_ptr<void> allocate(std::size_t bytes, bool exact = false);
  MemoryBytes in_use() const;
  /// The use of memory when most was in use since the last reset_peak().
  MemoryBytes at_peak() const;
  void reset_peak();

  struct OpTotal {
    std::uint64_t calls = 0;
    double flops = 0, bytes = 0, seconds = 0;
  };
  /// Counts it, and runs it where it has few elements, or for the memory that it allocates.
  void call(const OpCall& call, const std::function<void()>& run) override;
  const std::map<std::string, OpTotal>& ops() const { return ops_; }

  /// What a group of ranks did with one operation.
  struct Transfers {
    std::uint64_t calls = 0;
    double bytes = 0, seconds = 0, exposed_seconds = 0;
  };
  /// By name of the group and of the operation; stays where it is.
  Transfers& transfers(const std::string& group, const std::string& operation) {
    return transfers_[{group, operation}];
  }
  const std::map<std::pair<std::string, std::string>, Transfers>& transfers() const { return transfers_; }

  /// Seconds since the rehearsal began, on its own clock.
  double now() const { return now_; }
  /// The clock stands at `time` at least. Returns the seconds that had to be waited.
  double wait_until(double time);

 private:
  struct Memory;
  void spend(const char* op, const OpCost& cost);

  Pace pace_;
  bool workspaces_;
  std::shared_ptr<Memory> memory_;
  std::map<std::string, OpTotal> ops_;
  std::map<std::pair<std::string, std::string>, Transfers> transfers_;
  double now_ = 0;
};

/// The calling thread rehearses while this lives.
class RehearsalScope {
 public:
  explicit RehearsalScope(Rehearsal& rehearsal);
  ~RehearsalScope();
  RehearsalScope(const RehearsalScope&) = delete;
  RehearsalScope& operator=(const RehearsalScope&) = delete;

 private:
  OpObserverScope observer_;
  Rehearsal* before_;
  Rehearsal::Loops loops_before_;
};

/// The calling thread runs these loops while this lives.
class LoopScope {
 public:
  explicit LoopScope(Rehearsal::Loops loops);
  ~LoopScope();
  LoopScope(const LoopScope&) = delete;
  LoopScope& operator=(const LoopScope&) = delete;

 private:
  Rehearsal::Loops before_;
};

namespace rehearsal_detail {
inline constinit thread_local Rehearsal* current = nullptr;
inline constinit thread_local Rehearsal::Loops loops = Rehearsal::Loops::all;
}  // namespace rehearsal_detail

inline Rehearsal* Rehearsal::current() {
  return rehearsal_detail::current;
}
inline Rehearsal::Loops Rehearsal::loops() {
  return rehearsal_detail::loops;
}

}  // namespace dujiang
