#pragma once
// The slot that an op's implementations register in: one function per device type. The contract of an op (shapes,
// dtypes, aliasing) stands at its slot's declaration, in one header per family beside this one.

#include <array>

#include "framework/base/check.h"
#include "framework/base/device.h"

namespace dujiang::ops {

template <class Signature>
class Kernel;

template <class... Args>
class Kernel<void(Args...)> {
 public:
  using Function = void (*)(Stream&, Args...);

  /// Constant-initialised, so that backends may register from any static initialiser.
  constexpr explicit Kernel(const char* name) : name_(name) {}
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  const char* name() const { return name_; }

  /// Returns true, to initialise a static with; a second registration for one device type throws.
  bool add(DeviceType type, Function function) {
    auto& slot = slots_[static_cast<std::size_t>(type)];
    DUJIANG_CHECK(slot == nullptr, "op {}: two kernels registered for {}", name_, dujiang::name_of(type));
    slot = function;
    return true;
  }

  /// Runs the kernel of the stream's device; an empty slot throws.
  void operator()(Stream& stream, Args... args) const {
    const auto type = stream.device().type;
    const auto function = slots_[static_cast<std::size_t>(type)];
    DUJIANG_CHECK(function != nullptr, "op {}: no kernel for device {}", name_, dujiang::name_of(type));
    function(stream, args...);
  }

 private:
  const char* name_;
  std::array<Function, device_type_count> slots_{};
};

}  // namespace dujiang::ops
