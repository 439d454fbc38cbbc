#pragma once
// The slot that an op's implementations register in: one function per device type. The contract of an op (shapes,
// dtypes, aliasing) stands at its slot's declaration, in one header per family beside this one.

#include <array>
#include <functional>
#include <type_traits>

#include "framework/base/check.h"
#include "framework/base/device.h"
#include "framework/base/op_observer.h"
#include "framework/base/view.h"

namespace dujiang::ops {

template <class Signature>
class Kernel;

template <class... Args>
class Kernel<void(Args...)> {
 public:
  using Function = void (*)(Stream&, Args...);
  using Cost = OpCost (*)(Args...);

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

  /// What a rehearsal or a profile counts for a call, where reading or writing every view once isn't it. As add().
  bool set_cost(Cost cost) {
    DUJIANG_CHECK(cost_ == nullptr, "op {}: its cost is stated twice", name_);
    cost_ = cost;
    return true;
  }

  /// Runs the kernel of the stream's device; an empty slot throws.
  void operator()(Stream& stream, Args... args) const {
    const auto type = stream.device().type;
    const auto function = slots_[static_cast<std::size_t>(type)];
    DUJIANG_CHECK(function != nullptr, "op {}: no kernel for device {}", name_, dujiang::name_of(type));
    if (auto* observer = OpObserver::current()) return observed(*observer, function, stream, args...);
    function(stream, args...);
  }

 private:
  static double bytes_of(const View& view) { return view.defined() ? static_cast<double>(view.bytes()) : 0; }
  template <class T>
  static double bytes_of(const T&) {
    return 0;
  }

  void observed(OpObserver& observer, Function function, Stream& stream, Args... args) const {
    std::array<const View*, sizeof...(Args)> views{};
    std::size_t count = 0;
    const auto note = [&](const auto& arg) {
      if constexpr (std::is_same_v<std::decay_t<decltype(arg)>, View>) views[count++] = &arg;
    };
    (note(args), ...);
    const OpCost cost = cost_ != nullptr ? cost_(args...) : OpCost{.bytes = (bytes_of(args) + ...)};
    observer.call({name_, {views.data(), count}, cost}, [&] { function(stream, args...); });
  }

  const char* name_;
  Cost cost_ = nullptr;
  std::array<Function, device_type_count> slots_{};
};

}  // namespace dujiang::ops
