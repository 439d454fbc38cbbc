#include "framework/base/rehearsal.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "framework/base/allocator.h"
#include "framework/base/check.h"

namespace dujiang {
namespace {

thread_local MemoryUse memory_use = MemoryUse::activations;

// Below, memory is real and zeroed: a mapping of its own costs more.
constexpr std::size_t smallest_mapping = std::size_t{64} << 10;

void* reserve(std::size_t bytes) {
  if (bytes < smallest_mapping) {
    void* const block = std::calloc(1, bytes);
    DUJIANG_CHECK(block != nullptr, "out of host memory: {} bytes wanted", bytes);
    return block;
  }
  void* const block = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  DUJIANG_CHECK(block != MAP_FAILED,
                "rehearsal: no addresses for {} bytes: the system limits them (ulimit -v, vm.overcommit_memory = 2)",
                bytes);
  return block;
}

void release(void* block, std::size_t bytes) {
  if (bytes < smallest_mapping) {
    std::free(block);
  } else {
    munmap(block, bytes);
  }
}

}  // namespace

const char* name_of(MemoryUse use) {
  switch (use) {
    case MemoryUse::parameters:
      return "parameters";
    case MemoryUse::gradients:
      return "gradients";
    case MemoryUse::optimizer:
      return "optimizer";
    case MemoryUse::activations:
      return "activations";
    case MemoryUse::workspace:
      return "workspace";
  }
  return "unknown";
}

MemoryScope::MemoryScope(MemoryUse use) : before_(std::exchange(memory_use, use)) {}
MemoryScope::~MemoryScope() {
  memory_use = before_;
}

struct Rehearsal::Memory {
  MemoryBytes in_use, at_peak;
};

Rehearsal::Rehearsal(const Pace& pace, bool workspaces)
    : pace_(pace), workspaces_(workspaces), memory_(std::make_shared<Memory>()) {}

std::shared_ptr<void> Rehearsal::allocate(std::size_t bytes, bool exact) {
  const std::size_t size = exact ? std::max<std::size_t>(bytes, 1) : host_block_bytes(bytes);
  const auto use = static_cast<std::size_t>(memory_use);
  auto& in_use = memory_->in_use;
  in_use.of[use] += size;
  in_use.total += size;
  if (in_use.total > memory_->at_peak.total) memory_->at_peak = in_use;
  return std::shared_ptr<void>(reserve(size), [memory = memory_, size, use](void* block) {
    release(block, size);
    memory->in_use.of[use] -= size;
    memory->in_use.total -= size;
  });
}

MemoryBytes Rehearsal::in_use() const {
  return memory_->in_use;
}
MemoryBytes Rehearsal::at_peak() const {
  return memory_->at_peak;
}
void Rehearsal::reset_peak() {
  memory_->at_peak = memory_->in_use;
}

void Rehearsal::spend(const char* op, const OpCost& cost) {
  const double rate =
      (cost.dtype == Dtype::f32 ? pace_.single_flops : pace_.half_flops) * (cost.attention ? pace_.attention_share : 1);
  const double seconds = std::max({cost.flops / rate, cost.bytes / pace_.bytes, pace_.call});
  auto& total = ops_[op];
  ++total.calls;
  total.flops += cost.flops;
  total.bytes += cost.bytes;
  total.seconds += seconds;
  now_ += seconds;
}

void Rehearsal::call(const OpCall& call, const std::function<void()>& run) {
  constexpr std::int64_t few = 256;  // elements whose values host code may want
  std::int64_t elements = 0;
  for (const View* view : call.views)
    if (view->defined()) elements += view->count();
  spend(call.op, call.cost);
  if (elements > few && !workspaces_) return;
  const LoopScope loops(elements > few ? Loops::none : Loops::all);
  const MemoryScope memory(MemoryUse::workspace);
  run();
}

double Rehearsal::wait_until(double time) {
  const double waited = std::max(time - now_, 0.0);
  now_ += waited;
  return waited;
}

RehearsalScope::RehearsalScope(Rehearsal& rehearsal)
    : observer_(&rehearsal),
      before_(std::exchange(rehearsal_detail::current, &rehearsal)),
      loops_before_(std::exchange(rehearsal_detail::loops, Rehearsal::Loops::tasks)) {}
RehearsalScope::~RehearsalScope() {
  rehearsal_detail::current = before_;
  rehearsal_detail::loops = loops_before_;
}

LoopScope::LoopScope(Rehearsal::Loops loops) : before_(std::exchange(rehearsal_detail::loops, loops)) {}
LoopScope::~LoopScope() {
  rehearsal_detail::loops = before_;
}

}  // namespace dujiang
