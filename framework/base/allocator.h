#pragma once
// Host memory for tensors: cached between uses, on huge pages, aligned to 64 bytes at least. First touch of fresh
// pages costs more than most kernels, so freed blocks are kept and handed out again.

#include <cstddef>
#include <cstdint>
#include <memory>

namespace dujiang {

struct AllocatorStats {
  std::uint64_t in_use = 0;        ///< bytes handed out now
  std::uint64_t cached = 0;        ///< bytes kept for reuse
  std::uint64_t peak = 0;          ///< the largest in_use seen since the last reset_peak()
  std::uint64_t system_calls = 0;  ///< how often memory was asked from the system
};

/// Returns at least `bytes` bytes, uninitialised; the last holder's release returns them to the cache. Thread-safe.
/// Throws Error naming the size when the system has no more.
std::shared_ptr<void> allocate_host(std::size_t bytes);
/// Likewise, all bytes zero.
std::shared_ptr<void> allocate_zeroed_host(std::size_t bytes);
/// What allocate_host(bytes) takes: sizes are rounded up so that freed blocks serve others.
std::size_t host_block_bytes(std::size_t bytes);

/// The same memory, which came from elsewhere: its `bytes` count as in use until the last holder lets go.
std::shared_ptr<void> counted_host_memory(std::shared_ptr<void> memory, std::size_t bytes);

AllocatorStats host_allocator_stats();
void reset_host_allocator_peak();
/// Gives all cached blocks back to the system.
void trim_host_allocator();

}  // namespace dujiang
