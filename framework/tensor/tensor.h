#pragma once
// Tensor: a shared handle on strided memory, and, where it takes part in differentiation, on its place in the graph.

#include <memory>
#include <span>
#include <vector>

#include "framework/base/view.h"

namespace dujiang {

namespace autograd {
struct Meta;
}

/// Copies of a Tensor share memory and graph place. The memory lives as long as any holder.
class Tensor {
 public:
  Tensor() = default;

  /// Uninitialised memory from the device's caching allocator.
  static Tensor empty(Shape shape, Dtype dtype, Device device = {});
  /// The same shape, type and device, contiguous; other values.
  static Tensor empty_like(const Tensor& x);
  static Tensor zeros(Shape shape, Dtype dtype, Device device = {});
  /// A contiguous copy of host values.
  template <class T>
  static Tensor of(std::span<const T> values, Shape shape);
  /// A tensor over memory that `owner` keeps alive.
  static Tensor over(std::shared_ptr<void> owner, View view);

  bool defined() const { return memory_ != nullptr; }
  const Shape& shape() const { return view_.shape; }
  std::int64_t size(int axis) const { return view_.shape[axis]; }
  std::int64_t count() const { return view_.count(); }
  Dtype dtype() const { return view_.dtype; }
  Device device() const { return view_.device; }
  bool contiguous() const { return view_.contiguous(); }
  std::string str() const { return defined() ? view_.str() : "undefined"; }

  /// What ops take. Undefined tensors give an undefined view.
  const View& raw() const { return view_; }
  operator const View&() const { return view_; }

  /// Views on the same memory, outside the graph (autograd/functions.h has the recorded ones).
  Tensor view(Shape shape) const { return over(memory_, view_.reshaped(shape)); }
  Tensor narrow(int axis, std::int64_t start, std::int64_t length) const {
    return over(memory_, view_.narrowed(axis, start, length));
  }
  Tensor transpose(int axis_a, int axis_b) const { return over(memory_, view_.transposed(axis_a, axis_b)); }

  /// The elements; throws unless the dtype is T's, the memory host's and the tensor contiguous.
  template <class T>
  std::span<T> data() const {
    check_host_access();
    return {view_.as<T>(), static_cast<std::size_t>(count())};
  }

  /// Copies: same dtype contiguous, or converted.
  Tensor clone() const { return to(dtype()); }
  Tensor to(Dtype dtype) const;
  /// The elements as floats, whatever the floating dtype.
  std::vector<float> floats() const;
  /// The single element of a floating tensor of count 1.
  double item() const;
  /// this[...] = source[...], converted; shapes equal.
  void copy_from(const Tensor& source) const;
  void fill(float value) const;

  /// True when no other handle shares the memory, so that it may be overwritten.
  bool exclusive() const { return memory_.use_count() == 1; }
  /// The same memory without the graph place.
  Tensor detached() const { return over(memory_, view_); }

  /// The place in the graph; null outside of it.
  const std::shared_ptr<autograd::Meta>& meta() const { return meta_; }
  void set_meta(std::shared_ptr<autograd::Meta> meta) { meta_ = std::move(meta); }

 private:
  void check_host_access() const;

  std::shared_ptr<void> memory_;
  View view_;
  std::shared_ptr<autograd::Meta> meta_;
};

/// The stream that a device's tensor work is queued on.
Stream& default_stream(Device device);

template <class T>
Tensor Tensor::of(std::span<const T> values, Shape shape) {
  DUJIANG_CHECK(static_cast<std::int64_t>(values.size()) == shape.count(), "{} values for shape {}", values.size(),
                shape.str());
  Tensor t = empty(shape, dtype_of<T>);
  std::copy(values.begin(), values.end(), t.view_.as<T>());
  return t;
}

}  // namespace dujiang
