#pragma once

#include <cstdint>
#include <memory>

#include "framework/base/allocator.h"
#include "framework/base/threads.h"

namespace dujiang::ops::cpu {

/// Memory for each thread of the parallel regions that the constructing thread opens.
class ThreadScratch {
 public:
  explicit ThreadScratch(std::int64_t bytes)
      : nested_(omp_in_parallel()),
        stride_((bytes + 63) / 64 * 64),
        memory_(allocate_host(static_cast<std::size_t>(stride_ * (nested_ ? 1 : thread_count())))) {}
  void* mine() const { return static_cast<char*>(memory_.get()) + (nested_ ? 0 : omp_get_thread_num() * stride_); }

 private:
  bool nested_;
  std::int64_t stride_;
  std::shared_ptr<void> memory_;
};

}  // namespace dujiang::ops::cpu
