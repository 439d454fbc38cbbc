#pragma once
// Large buffers of one size that blocks use in turn.

#include <vector>

#include "comm/communicator.h"
#include "framework/tensor/tensor.h"

namespace dujiang::parallel {

/// [count] over zeroed memory that `communicator` reaches fastest. Collective.
Tensor allocate_for(comm::Communicator& communicator, std::int64_t count, Dtype dtype);

class BufferPool {
 public:
  /// Buffers of [count], made when there is none to take. `communicator` must outlive this.
  BufferPool(comm::Communicator& communicator, std::int64_t count, Dtype dtype)
      : communicator_(communicator), count_(count), dtype_(dtype) {}

  /// [count] with count up to the pool's, uninitialised. Collective: all ranks take and give in the same order.
  Tensor take(std::int64_t count);
  /// Gives back what take() returned.
  void give(const Tensor& buffer);

 private:
  comm::Communicator& communicator_;
  std::int64_t count_;
  Dtype dtype_;
  std::vector<Tensor> free_, lent_;
};

}  // namespace dujiang::parallel
