#include "framework/base/allocator.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "framework/base/check.h"
#include "framework/base/rehearsal.h"

namespace dujiang {
namespace {

constexpr std::size_t huge_page = std::size_t{2} << 20;

void* from_system(std::size_t size) {
  void* block = nullptr;
  return posix_memalign(&block, size >= huge_page ? huge_page : 64, size) == 0 ? block : nullptr;
}

class Cache {
 public:
  std::shared_ptr<void> take(std::size_t bytes) {
    const std::size_t size = host_block_bytes(bytes);
    void* block = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (auto it = free_.find(size); it != free_.end()) {
        block = it->second;
        free_.erase(it);
        stats_.cached -= size;
      } else {
        ++stats_.system_calls;
      }
      add(size);
    }
    if (block == nullptr) {
      block = from_system(size);
      if (block == nullptr) {
        release_free();
        block = from_system(size);
      }
      if (block == nullptr) {
        const std::lock_guard lock(mutex_);
        stats_.in_use -= size;
        fail("out of host memory: {} bytes wanted, {} in use by tensors; lower train.micro_batch or the model's size",
             bytes, stats_.in_use);
      }
      if (size >= huge_page) madvise(block, size, MADV_HUGEPAGE);
    }
    return std::shared_ptr<void>(block, [this, size](void* p) { give_back(p, size); });
  }

  void give_back(void* block, std::size_t size) {
    const std::lock_guard lock(mutex_);
    free_.emplace(size, block);
    stats_.in_use -= size;
    stats_.cached += size;
  }

  void count(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    add(bytes);
  }

  void discount(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    stats_.in_use -= bytes;
  }

  void release_free() {
    const std::lock_guard lock(mutex_);
    for (auto& [size, block] : free_) std::free(block);
    free_.clear();
    stats_.cached = 0;
  }

  AllocatorStats stats() {
    const std::lock_guard lock(mutex_);
    return stats_;
  }

  void reset_peak() {
    const std::lock_guard lock(mutex_);
    stats_.peak = stats_.in_use;
  }

 private:
  void add(std::size_t bytes) {
    stats_.in_use += bytes;
    stats_.peak = std::max(stats_.peak, stats_.in_use);
  }

  std::mutex mutex_;
  std::multimap<std::size_t, void*> free_;
  AllocatorStats stats_;
};

// Never destroyed: tensors in static storage may outlive it otherwise.
Cache& cache() {
  static Cache* const instance = new Cache;
  return *instance;
}

}  // namespace

// To an eighth of their power of two below a huge page, to whole huge pages above (to an eighth of the power of two
// above 16 of them).
std::size_t host_block_bytes(std::size_t bytes) {
  if (bytes <= 512) return 512;
  const std::size_t power = std::bit_floor(bytes);
  const std::size_t step = power / (power >= huge_page ? 32 : 8);
  return (bytes + step - 1) / step * step;
}

std::shared_ptr<void> allocate_host(std::size_t bytes) {
  if (auto* rehearsal = Rehearsal::current()) return rehearsal->allocate(bytes);
  return cache().take(bytes);
}

std::shared_ptr<void> allocate_zeroed_host(std::size_t bytes) {
  auto memory = allocate_host(bytes);
  if (Rehearsal::current() == nullptr) std::memset(memory.get(), 0, bytes);
  return memory;
}

std::shared_ptr<void> counted_host_memory(std::shared_ptr<void> memory, std::size_t bytes) {
  void* const data = memory.get();
  cache().count(bytes);
  return {data, [memory = std::move(memory), bytes](void*) { cache().discount(bytes); }};
}
AllocatorStats host_allocator_stats() {
  return cache().stats();
}
void reset_host_allocator_peak() {
  cache().reset_peak();
}
void trim_host_allocator() {
  cache().release_free();
}

}  // namespace dujiang
