#pragma once
// Times collective operations as nccl-tests does, beside plain MPI where there is MPI, and beside the limit.

#include <cstdint>
#include <memory>
#include <optional>

#include "comm/communicator.h"
#include "comm/mpi/mpi_session.h"

namespace dujiang::comm {

struct BenchRow {
  Op op;
  Dtype dtype;
  bool allocated;            ///< memory of Communicator::allocate, else ordinary memory
  std::int64_t bytes = 0;    ///< as nccl-tests count: of the larger buffer of a rank
  double seconds = 0;        ///< the best of the repeats, of the slowest rank in each
  double mpi_seconds = 0;    ///< the same of MPI's own call, in turn with ours; 0 where it has none
  double limit_seconds = 0;  ///< bytes that must cross memory over the rate of copies on all ranks at once
  std::int64_t wrong = 0;    ///< elements, on all ranks, that differ from what they must be

  /// nccl-tests' definitions: bytes per second, and times the share that an ideal network would carry, in GB/s.
  double algbw_gbs() const { return static_cast<double>(bytes) / seconds * 1e-9; }
  double busbw_gbs(int ranks) const;
};

class CommBench {
 public:
  /// For transports on the CPU. MPI is measured beside transport mpi.
  explicit CommBench(Communicator& communicator);

  /// Collective. Reductions are sums; all_reduce and reduce run in place. Takes about `budget` seconds on each side.
  BenchRow run(Op op, Dtype dtype, std::int64_t bytes, bool allocated, double budget);
  /// Bytes read and written per second, in GB/s, when every rank copies a large buffer.
  double copy_gbs() const { return copy_gbs_; }

 private:
  struct Memory;
  double slowest(double seconds);
  double measure_copy();

  Communicator& communicator_;
  MpiSession* const session_;
  Stream stream_{Device{}};
  double copy_gbs_ = 0;
};

}  // namespace dujiang::comm
