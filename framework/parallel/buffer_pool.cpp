#include "framework/parallel/buffer_pool.h"

#include <algorithm>

#include "framework/base/check.h"

namespace dujiang::parallel {

Tensor allocate_for(comm::Communicator& communicator, std::int64_t count, Dtype dtype) {
  if (communicator.size() == 1) return Tensor::zeros({count}, dtype, communicator.device());
  auto memory = communicator.allocate(static_cast<std::size_t>(count) * size_of(dtype));
  const View view(memory.get(), dtype, {count}, communicator.device());
  return Tensor::over(std::move(memory), view);
}

Tensor BufferPool::take(std::int64_t count) {
  DUJIANG_CHECK(count <= count_, "a buffer of {} elements from a pool of {}", count, count_);
  if (free_.empty()) free_.push_back(allocate_for(communicator_, count_, dtype_));
  lent_.push_back(free_.back());
  free_.pop_back();
  return lent_.back().narrow(0, 0, count);
}

void BufferPool::give(const Tensor& buffer) {
  const auto same = [&](const Tensor& lent) { return lent.raw().data == buffer.raw().data; };
  const auto lent = std::find_if(lent_.begin(), lent_.end(), same);
  DUJIANG_CHECK(lent != lent_.end(), "a buffer that isn't of this pool was given back");
  free_.push_back(*lent);
  lent_.erase(lent);
}

}  // namespace dujiang::parallel
