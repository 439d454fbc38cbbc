#include "framework/autograd/slices.h"

#include <exception>
#include <vector>

#include "framework/base/threads.h"
#include "ops/elementwise.h"

namespace dujiang::fn {
namespace {

/// Libraries choose their kernels by the number of threads they may use.
class OneThread {
 public:
  OneThread() { set_thread_count(1); }
  ~OneThread() { set_thread_count(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_ = thread_count();
};

}  // namespace

void each_slice(int count, const std::function<void(int)>& body) {
  std::vector<std::exception_ptr> errors(static_cast<std::size_t>(count));
  parallel_tasks(count, [&](std::int64_t i) {
    try {
      const OneThread alone;
      body(static_cast<int>(i));
    } catch (...) {
      errors[static_cast<std::size_t>(i)] = std::current_exception();
    }
  });
  for (const auto& error : errors)
    if (error) std::rethrow_exception(error);
}

Tensor tree_sum(const Tensor& partials, const Slices& slices) {
  const std::int64_t count = partials.size(0);
  auto& stream = default_stream(partials.device());
  // Neighbours at distance 1, then 2, 4, ...: the tree that splits at the largest power of two below the count.
  for (std::int64_t distance = 1; distance < count; distance *= 2)
    for (std::int64_t i = 0; i + distance < count; i += 2 * distance) {
      const Tensor sum = partials.narrow(0, i, 1);
      ops::add(stream, sum, partials.narrow(0, i + distance, 1), sum);
    }
  const Tensor sum = partials.narrow(0, 0, 1).view(Shape(partials.shape().sizes().subspan(1)));
  // -0 is what changes nothing: x + -0 = x, also where x is -0.
  if (!slices.counts) sum.fill(-0.0f);
  if (slices.across) slices.across(sum);
  return sum;
}

Tensor slice_of(const Tensor& x, int axis, int index, int count) {
  const std::int64_t length = x.size(axis);
  DUJIANG_CHECK(count > 0 && length % count == 0, "axis {} of {} in {} slices: expected a multiple", axis, x.str(),
                count);
  return x.narrow(axis, length / count * index, length / count);
}

Tensor packed(const Tensor& x) {
  return x.contiguous() ? x.detached() : x.clone();
}

void put(const Tensor& target, const Tensor& part, bool accumulate) {
  if (accumulate) {
    ops::add(default_stream(target.device()), target, part, target);
  } else {
    target.copy_from(part);
  }
}

}  // namespace dujiang::fn
