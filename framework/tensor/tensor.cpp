#include "framework/tensor/tensor.h"

#include <algorithm>
#include <cstring>

#include "framework/base/allocator.h"
#include "framework/base/rehearsal.h"
#include "ops/elementwise.h"

namespace dujiang {

Tensor Tensor::empty(Shape shape, Dtype dtype, Device device) {
  DUJIANG_CHECK(device.type == DeviceType::cpu, "tensor of shape {} on {}: no allocator for this device", shape.str(),
                device.str());
  for (auto size : shape) DUJIANG_CHECK(size >= 0, "tensor of negative size: {}", shape.str());
  Tensor t;
  t.memory_ = allocate_host(static_cast<std::size_t>(shape.count()) * size_of(dtype));
  t.view_ = View(t.memory_.get(), dtype, shape, device);
  return t;
}

Tensor Tensor::empty_like(const Tensor& x) {
  return empty(x.shape(), x.dtype(), x.device());
}

Tensor Tensor::zeros(Shape shape, Dtype dtype, Device device) {
  Tensor t = empty(shape, dtype, device);
  if (Rehearsal::current() == nullptr) std::memset(t.view_.data, 0, t.view_.bytes());  // else it is zero already
  return t;
}

Tensor Tensor::over(std::shared_ptr<void> owner, View view) {
  Tensor t;
  t.memory_ = std::move(owner);
  t.view_ = view;
  return t;
}

Tensor Tensor::to(Dtype dtype) const {
  Tensor t = empty(shape(), dtype, device());
  t.copy_from(*this);
  return t;
}

std::vector<float> Tensor::floats() const {
  const Tensor t = to(Dtype::f32);
  const auto values = t.data<float>();
  return {values.begin(), values.end()};
}

double Tensor::item() const {
  DUJIANG_CHECK(count() == 1, "item() of {}: expected one element", str());
  if (dtype() == Dtype::f64) return data<double>()[0];
  return floats()[0];
}

void Tensor::copy_from(const Tensor& source) const {
  ops::copy(default_stream(device()), source, view_);
}

void Tensor::fill(float value) const {
  ops::fill(default_stream(device()), view_, value);
}

void Tensor::check_host_access() const {
  DUJIANG_CHECK(device().type == DeviceType::cpu && contiguous(), "data() of {} on {}: expected contiguous host memory",
                str(), device().str());
}

Stream& default_stream(Device device) {
  DUJIANG_CHECK(device.type == DeviceType::cpu, "no stream for device {}", device.str());
  static Stream cpu{Device{}};
  return cpu;
}

}  // namespace dujiang
