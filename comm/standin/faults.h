#pragma once
// Faults of a stand-in, from an environment variable: which call of which function goes wrong, and how.

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace dujiang::standin {

struct Fault {
  enum class Kind {
    code,    ///< the call returns `value` and does nothing
    async,   ///< the call succeeds, but what it queued fails with `value` when it runs
    hang,    ///< the call succeeds, but what it queued never ends
    block,   ///< the call itself never returns
    crash,   ///< the process kills itself when what was queued runs
    corrupt  ///< what was queued runs, and its first byte received is then flipped
  };
  std::string function;
  int call = 1;   ///< 1: the first of this process
  int rank = -1;  ///< of the environment variable RANK; -1: every rank
  Kind kind = Kind::code;
  int value = 0;
};

/// "HcclAllReduce@3=9;1:HcclBroadcast@1=hang;HcclReduce@2=async:21": the third HcclAllReduce of every rank returns 9,
/// the first HcclBroadcast of rank 1 never ends, the second HcclReduce fails with 21 when it runs. Also block, crash
/// and corrupt. Throws Error for anything else.
std::vector<Fault> parse_faults(const std::string& text);

class Faults {
 public:
  explicit Faults(std::vector<Fault> faults);
  /// Counts a call; the fault meant for it, if any.
  std::optional<Fault> next(const std::string& function);

 private:
  std::mutex mutex_;
  std::vector<Fault> faults_;
  std::map<std::string, int> calls_;
};

}  // namespace dujiang::standin
