#include "comm/host/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "framework/base/check.h"

namespace dujiang::comm {
namespace {

constexpr int offset_bits = 40;  // of a handle; above them the region's number + 1

std::byte* map(int descriptor, std::size_t bytes) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (data == MAP_FAILED) return nullptr;
  madvise(data, bytes, MADV_HUGEPAGE);  // where the system allows them for shared memory
  return static_cast<std::byte*>(data);
}

}  // namespace

std::shared_ptr<SharedSegment> SharedSegment::create(std::size_t bytes) {
  bytes = std::max<std::size_t>(bytes, 4096);
  const int descriptor = memfd_create("dujiang", MFD_CLOEXEC);
  DUJIANG_CHECK(descriptor >= 0, "shared memory: memfd_create failed: {}", std::strerror(errno));
  std::byte* data = ftruncate(descriptor, static_cast<off_t>(bytes)) == 0 ? map(descriptor, bytes) : nullptr;
  // Reserved now: a page that isn't there when it is touched would end the process without a word.
  const int error = data == nullptr ? errno : posix_fallocate(descriptor, 0, static_cast<off_t>(bytes));
  if (error != 0) {
    if (data != nullptr) munmap(data, bytes);
    ::close(descriptor);
    fail("shared memory: {} bytes can't be had: {}", bytes, std::strerror(error));
  }
  std::uint64_t secret = 0;
  DUJIANG_CHECK(getrandom(&secret, sizeof secret, 0) == sizeof secret, "getrandom failed: {}", std::strerror(errno));
  std::memcpy(data, &secret, sizeof secret);
  return std::shared_ptr<SharedSegment>(new SharedSegment(data, bytes, descriptor, secret));
}

std::shared_ptr<SharedSegment> SharedSegment::attach(const SegmentAddress& address) {
  const std::string path = fmt::format("/proc/{}/fd/{}", address.pid, address.descriptor);
  const int descriptor = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (descriptor < 0) return nullptr;
  std::byte* data = map(descriptor, address.bytes);
  ::close(descriptor);
  if (data == nullptr) return nullptr;
  auto segment = std::shared_ptr<SharedSegment>(new SharedSegment(data, address.bytes, -1, address.secret));
  const bool right = std::memcmp(data, &address.secret, sizeof address.secret) == 0;
  return right ? segment : nullptr;
}

SharedSegment::~SharedSegment() {
  munmap(data_, bytes_);
  if (descriptor_ >= 0) ::close(descriptor_);
}

SegmentAddress SharedSegment::address() const {
  return {getpid(), descriptor_, 0, bytes_, secret_};
}

void SharedSegment::close() {
  ::close(descriptor_);
  descriptor_ = -1;
  std::memset(data_, 0, sizeof secret_);
}

std::uint32_t SharedRegions::next_number() {
  const std::lock_guard lock(mutex_);
  return numbers_++;
}

std::shared_ptr<void> SharedRegions::add(std::vector<Part> parts, std::size_t own) {
  // Its own part first, which offer() looks at.
  std::swap(parts[0], parts[own]);
  std::byte* data = parts[0].segment->data();
  {
    const std::lock_guard lock(mutex_);
    for (const Part& part : parts) reachable_[{part.rank, part.number}] = part.segment;
    own_[data] = std::move(parts);
  }
  return {data, [self = shared_from_this()](void* memory) { self->remove(static_cast<const std::byte*>(memory)); }};
}

void SharedRegions::remove(const std::byte* own) {
  std::vector<Part> parts;  // unmapped after the lock
  const std::lock_guard lock(mutex_);
  const auto region = own_.find(own);
  parts = std::move(region->second);
  for (const Part& part : parts) reachable_.erase({part.rank, part.number});
  own_.erase(region);
}

std::uint64_t SharedRegions::offer(const std::vector<int>& group, const void* data, std::size_t bytes) const {
  const auto* first = static_cast<const std::byte*>(data);
  const std::lock_guard lock(mutex_);
  auto region = own_.upper_bound(first);
  if (region == own_.begin()) return 0;
  --region;
  const auto& parts = region->second;
  const auto offset = static_cast<std::size_t>(first - region->first);
  if (offset + bytes > parts[0].segment->bytes()) return 0;
  const bool all = std::all_of(group.begin(), group.end(), [&](int rank) {
    return std::any_of(parts.begin(), parts.end(), [rank](const Part& part) { return part.rank == rank; });
  });
  return all ? (std::uint64_t{parts[0].number} + 1) << offset_bits | offset : 0;
}

std::byte* SharedRegions::reach(int rank, std::uint64_t handle) const {
  const auto number = static_cast<std::uint32_t>((handle >> offset_bits) - 1);
  const std::lock_guard lock(mutex_);
  const auto segment = reachable_.find({rank, number});
  DUJIANG_CHECK(segment != reachable_.end(),
                "rank {} offers memory of an allocate() that this rank has released: keep it until its last operation",
                rank);
  return segment->second->data() + (handle & ((std::uint64_t{1} << offset_bits) - 1));
}

}  // namespace dujiang::comm
