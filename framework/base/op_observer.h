#pragma once
// Who watches the ops of a thread: a rehearsal (framework/base/rehearsal.h) counts them and leaves them out, a profile
// (framework/base/op_profile.h) takes their time. Without one, an op costs one branch more.

#include <functional>
#include <span>
#include <utility>

#include "framework/base/dtype.h"
#include "framework/base/view.h"

namespace dujiang {

/// What one call of an op takes.
struct OpCost {
  double flops = 0;          ///< of products; the first two views are the factors
  double bytes = 0;          ///< read and written
  Dtype dtype = Dtype::f32;  ///< of the arithmetic's inputs: which rate counts
  bool attention = false;    ///< not a plain product: its rate is another
};

struct OpCall {
  const char* op;
  std::span<const View* const> views;  ///< its arguments that are views, undefined ones included, in order
  OpCost cost;
};

class OpObserver {
 public:
  virtual ~OpObserver() = default;
  /// Stands for the call: `run` runs it.
  virtual void call(const OpCall& call, const std::function<void()>& run) = 0;
  virtual void begin_section(const char* /*name*/) {}
  virtual void end_section() {}

  /// The calling thread's; null where nobody watches.
  static OpObserver* current();
};

/// The observer (null: nobody) watches the calling thread while this lives.
class OpObserverScope {
 public:
  explicit OpObserverScope(OpObserver* observer);
  ~OpObserverScope();
  OpObserverScope(const OpObserverScope&) = delete;
  OpObserverScope& operator=(const OpObserverScope&) = delete;

 private:
  OpObserver* before_;
};

namespace op_observer_detail {
inline constinit thread_local OpObserver* current = nullptr;
}  // namespace op_observer_detail

inline OpObserver* OpObserver::current() {
  return op_observer_detail::current;
}
inline OpObserverScope::OpObserverScope(OpObserver* observer)
    : before_(std::exchange(op_observer_detail::current, observer)) {}
inline OpObserverScope::~OpObserverScope() {
  op_observer_detail::current = before_;
}

/// Tells the calling thread's observer, if there is one, that a part of the work runs while this lives: "forward".
/// Sections nest.
class OpSection {
 public:
  explicit OpSection(const char* name) : observer_(OpObserver::current()) {
    if (observer_ != nullptr) observer_->begin_section(name);
  }
  ~OpSection() {
    if (observer_ != nullptr) observer_->end_section();
  }
  OpSection(const OpSection&) = delete;
  OpSection& operator=(const OpSection&) = delete;

 private:
  OpObserver* observer_;
};

}  // namespace dujiang
